"""The gradient of the training loss by the query weights, written out.

In a grafted network only the rows of new categories learn, so few derivatives are needed, and no
autograd graph is kept: going backward is one product with each frozen weight matrix, as
`hidden_gradients`, `posterior_gradients` and `head_gradients` say for their parts.

What the labels of SCANVI add to the gradient of z, and to that of m by the classifier, is as small
as the latent and comes from autograd. Its latent has no KL against N(0, I) but the entropy alone: m
adds nothing, v adds -½/v at any KL weight, as of a KL against a prior that is flat.

Notation as in `layers` and `scvi`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models_store.cells import Cells, Noise, Projection, select_cells, without_counts
from models_store.count_rows import CountRows
from models_store.head_gradients import (
    DefinedHead,
    FusedHead,
    HeadInput,
    SharedHead,
    can_use_kernels,
)
from models_store.hidden_gradients import HiddenLayers
from models_store.posterior_gradients import KLWeight, PosteriorGradients
from models_store.row_sums import Gradients, RowSums
from models_store.scanvi import SCANVI
from models_store.scvi import SCVI


class QueryGradients:
    """Gradients for one grafted network in eval mode (see `surgery.graft`), and its cells.

    Args:
        grafted: the network.
        cells: all that it learns from.
        projection: theirs, by `SCVI.project`.
        threads: how many may share the widest layer, where nearly all the work is.
    """

    def __init__(
        self, grafted: SCVI, cells: Cells, projection: Projection, *, threads: int = 1
    ) -> None:
        assert not grafted.training
        self.cvae, self.projection = grafted, projection
        # The head takes the counts; what else there is to a cell is chosen for each minibatch.
        self.cells = without_counts(cells)
        fused = can_use_kernels(grafted, cells.x)
        self.head = SharedHead(
            FusedHead(grafted, CountRows.of(cells.x)) if fused else DefinedHead(grafted, cells.x),
            threads,
        )
        self.z_encoder = PosteriorGradients(grafted.z_encoder)
        library = grafted.library_encoder
        self.library_encoder = None if library is None else PosteriorGradients(library)
        self.decoder = HiddenLayers(grafted.decoder.layers)
        # Mean and variance of a prior that pulls nowhere.
        self.flat = grafted.library_prior.new_tensor([[0.0, torch.inf]])

    @torch.no_grad()
    def __call__(self, index: Int[Tensor, " n"], noise: Noise, kl_weight: KLWeight) -> Gradients:
        """Gradients of `SCVI.training_loss`, the mean loss of a minibatch.

        Args:
            index: its cells among those of the network.
            noise: standard normal draws for them.
            kl_weight: weight of the KL divergence of z.
        """
        cells, projection = select_cells(self.cells, index), self.projection.rows(index)
        found = RowSums(1 / len(index))
        z = self.z_encoder.draw(projection.z, cells.codes, noise.z)
        log_library = projection.log_library
        if self.library_encoder is not None:
            assert projection.library is not None
            assert noise.library is not None
            log_library = self.library_encoder.draw(projection.library, cells.codes, noise.library)
        sample = torch.softmax(z, dim=-1) if self._on_simplex else z
        first = self.decoder.first
        seen = sample if cells.continuous is None else torch.cat([sample, cells.continuous], dim=-1)
        h = self.decoder.forward(torch.mm(seen, first), cells.codes, with_bias=False)
        g = self.head(HeadInput(h, log_library, cells, index))
        if g.log_theta is not None:
            found.add(self.cvae.dispersion, cells.codes[0], g.log_theta)
        g_y = self.decoder.backward(g.h, cells.codes, found)
        if self.z_encoder.learns:
            g_z = torch.mm(g_y, first.T)[:, : z.shape[1]]
            if self._on_simplex:
                g_z = sample * (g_z - (sample * g_z).sum(-1, keepdim=True))
            self._backward_z(g_z, cells, noise, kl_weight, found)
        self._backward_library(g.log_library, cells, kl_weight, found)
        return found.gradients

    def _backward_z(
        self,
        g_z: Float[Tensor, "c z"],
        cells: Cells,
        noise: Noise,
        kl_weight: KLWeight,
        found: RowSums,
    ) -> None:
        cvae, encoder = self.cvae, self.z_encoder
        if isinstance(cvae, SCANVI):
            z, m = encoder.z, encoder.m
            of_labels, g_m = cvae.label_gradients(z, m, noise, cells.labels, float(kl_weight))
            encoder.backward(g_z + of_labels, 1.0, self.flat, cells.codes, found, g_m=g_m)
        else:
            encoder.backward(g_z, kl_weight, None, cells.codes, found)

    def _backward_library(
        self, g: Float[Tensor, "c 1"], cells: Cells, kl_weight: KLWeight, found: RowSums
    ) -> None:
        cvae, encoder = self.cvae, self.library_encoder
        if encoder is None or not encoder.learns:
            return
        prior = cvae.library_prior[cells.codes[0]].view(-1, 2)
        weight = kl_weight if isinstance(cvae, SCANVI) else 1.0
        encoder.backward(g, weight, prior, cells.codes, found)

    @property
    def _on_simplex(self) -> bool:
        return self.cvae.architecture.latent_distribution == "ln"
