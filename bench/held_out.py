"""The ELBO of cells that no fit has seen: one evaluator, and the same noise, for both sides."""

from __future__ import annotations

from collections.abc import Mapping

import anndata
import torch
from torch import Tensor

from models_store.cells import Cells
from models_store.scvi import SCVI
from models_store.surgery import graft, load_query_weights, query_parameters
from tests.parity.convert import translate

DRAWS = 25


class HeldOut:
    """Cells of one new batch on one reference."""

    def __init__(self, network: SCVI, cells: anndata.AnnData) -> None:
        self.grafted = graft(network, [1])
        x = torch.from_numpy(cells.X.toarray())
        self.cells = Cells(x, (torch.full((len(x),), network.n_categories[0]),))
        self.projection = self.grafted.project(self.cells)
        generator = torch.Generator().manual_seed(0)
        self.noise = [network.draw_noise(len(x), generator) for _ in range(DRAWS)]

    @torch.no_grad()
    def elbo(self, weights: Mapping[str, Tensor]) -> float:
        """Mean per cell at KL weight 1."""
        load_query_weights(self.grafted, weights)
        terms = (self.grafted.loss_terms(self.cells, z, self.projection) for z in self.noise)
        return sum(float(each.elbo) for each in terms) / DRAWS

    def query_weights_of(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Query weights in the state of scvi-tools' module, under our names."""
        theirs = translate(self.grafted, state)
        return {name: theirs[name].clone() for name in query_parameters(self.grafted)}
