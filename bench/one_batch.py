"""Cells that are a batch of their own, mapped onto a network that is at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models_store.blocks import block_ranges
from models_store.cells import Cells, select_cells, with_dense_counts
from models_store.cvae import CVAE
from models_store.encoding import Latents, encode, join_projections, project_block
from models_store.recipe import RECIPES, RecipeName
from models_store.surgery import graft, load_query_weights
from worker.fitting import fit
from worker.restraint import MOST_AMONG, Restrained, restrain
from worker.training_cells import TrainingCells


def encoded(network: CVAE, cells: Cells) -> np.ndarray[Any, Any]:
    """Latents, (c, z)."""
    blocks = [slice(start, stop) for start, stop in block_ranges(len(cells.x))]
    parts = [project_block(network, select_cells(cells, rows)) for rows in blocks]
    found: Latents = encode(network, join_projections(parts), cells.codes)
    return found.mean.numpy()


def mapped(
    network: CVAE,
    query: Cells,
    recipe: RecipeName,
    seed: int,
    *,
    own: np.ndarray[Any, Any] | None = None,
) -> np.ndarray[Any, Any]:
    """Latents of the query, (c, z).

    Args:
        network: of a reference with one covariate, the batch.
        query: taken for one new batch, whatever its codes.
        recipe: how its rows are fitted.
        seed: of the fit.
        own: latents of the reference's cells, which hold the fit back as a mapping's is; None: the
            fitted rows stand.
    """
    alone, asked = replace(query, codes=(network.n_categories[0],)), RECIPES[recipe]
    with torch.no_grad():
        group = TrainingCells(alone, network.project(with_dense_counts(alone)))

    def held_back(fitted: Callable[[float], CVAE]) -> Restrained:
        assert own is not None
        among = torch.from_numpy(own[:: 1 + len(own) // MOST_AMONG])

        def place(share: float) -> Tensor:
            return encode(fitted(share), group.projection, alone.codes).mean

        return restrain(among, place, asked.mixing_kept, to_nearest=asked.to_nearest)

    fitted = fit(
        network,
        group,
        asked,
        n_new=[1],
        library_prior=None,
        seed=seed,
        tick=lambda _share: None,
        restrain=held_back if own is not None and asked.mixing_kept else None,
    )
    grafted = graft(network, [1])
    load_query_weights(grafted, fitted.weights)
    return encoded(grafted, alone)
