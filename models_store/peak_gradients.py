"""The gradient of PEAKVI's training loss by the query weights, written out.

As `query_gradients` has it for SCVI: what the frozen head gives back goes through the decoder to z
and its encoder, and by the depth of each cell to the depth encoder.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models_store.cells import Cells, Noise, Projection, select_cells, without_counts
from models_store.coders import SizeEncoder
from models_store.head_gradients import HeadInput, SharedHead
from models_store.hidden_gradients import HiddenLayers
from models_store.layers import Codes
from models_store.peakvi import PEAKVI
from models_store.posterior_gradients import KLWeight, PosteriorGradients
from models_store.region_head import RegionHead
from models_store.row_sums import Gradients, RowSums


class DepthGradients:
    """Of one depth encoder: `forward` to the logit of d, then `backward` for the same cells."""

    def __init__(self, encoder: SizeEncoder) -> None:
        self.layers = HiddenLayers(encoder.layers)
        self.learns = self.layers.learns
        self.weight = encoder.output.weight.detach()
        self.bias = encoder.output.bias.detach()

    def forward(self, projection: Float[Tensor, "c h"], codes: Codes) -> Float[Tensor, "c 1"]:
        """The logit of d."""
        h = self.layers.forward(projection, codes, with_bias=True)
        return torch.addmm(self.bias, h, self.weight.T)

    def backward(self, g: Float[Tensor, "c 1"], codes: Codes, found: RowSums) -> None:
        """From the gradient by that logit."""
        if self.learns:
            self.layers.backward(g * self.weight, codes, found)


class PeakGradients:
    """Gradients for one grafted network in eval mode (see `surgery.graft`), and its cells.

    Args:
        grafted: the network.
        cells: all that it learns from.
        projection: theirs, by `PEAKVI.project`.
        threads: how many may share the widest layer.
    """

    def __init__(
        self, grafted: PEAKVI, cells: Cells, projection: Projection, *, threads: int = 1
    ) -> None:
        assert not grafted.training
        self.cvae, self.projection = grafted, projection
        # The head takes the counts; what else there is to a cell is chosen for each minibatch.
        self.cells = without_counts(cells)
        depth = grafted.depth_encoder
        output, factors = grafted.decoder.output, grafted.region_factors
        head = RegionHead(output, factors, cells.x, has_depth=depth is not None)
        self.head = SharedHead(head, threads)
        self.z_encoder = PosteriorGradients(grafted.z_encoder)
        self.depth_encoder = None if depth is None else DepthGradients(depth)
        self.decoder = HiddenLayers(grafted.decoder.layers)
        self.on_simplex = grafted.architecture.latent_distribution == "ln"

    @torch.no_grad()
    def __call__(self, index: Int[Tensor, " n"], noise: Noise, kl_weight: KLWeight) -> Gradients:
        """Gradients of `PEAKVI.training_loss`, the mean loss of a minibatch.

        Args:
            index: its cells among those of the network.
            noise: standard normal draws for them.
            kl_weight: weight of the KL divergence of z.
        """
        cells, projection = select_cells(self.cells, index), self.projection.rows(index)
        found, codes, depth = RowSums(1 / len(index)), cells.codes, projection.log_library
        z = self.z_encoder.draw(projection.z, codes, noise.z)
        if self.depth_encoder is not None:
            assert projection.library is not None
            depth = self.depth_encoder.forward(projection.library, codes)
        sample = torch.softmax(z, dim=-1) if self.on_simplex else z
        seen = sample if cells.continuous is None else torch.cat([sample, cells.continuous], dim=-1)
        first = self.decoder.first
        h = self.decoder.forward(torch.mm(seen, first), codes, with_bias=False)
        g = self.head(HeadInput(h, depth, cells, index))
        g_y = self.decoder.backward(g.h, codes, found)
        if self.z_encoder.learns:
            g_z = torch.mm(g_y, first.T)[:, : z.shape[1]]
            if self.on_simplex:
                g_z = sample * (g_z - (sample * g_z).sum(-1, keepdim=True))
            share = kl_weight * self.cvae.kl_share
            self.z_encoder.backward(g_z, share, None, codes, found)
        if self.depth_encoder is not None:
            self.depth_encoder.backward(g.log_library, codes, found)
        return found.gradients
