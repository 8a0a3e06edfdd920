"""The gradient of the training loss by the query weights, by autograd: for kinds without another.

Slower than what `query_gradients` writes out, and the definition that such gradients are held to.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from models_store.cells import Cells, Noise, Projection
from models_store.cvae import CVAE
from models_store.row_sums import Gradients
from models_store.surgery import query_parameters


class AutogradGradients:
    """Gradients for one grafted network in eval mode, and its cells.

    Args:
        grafted: the network.
        cells: all that it learns from.
        projection: theirs, by `CVAE.project`.
    """

    def __init__(self, grafted: CVAE, cells: Cells, projection: Projection) -> None:
        assert not grafted.training
        self.cvae, self.cells, self.projection = grafted, cells, projection
        self.parameters = list(query_parameters(grafted).values())

    @torch.enable_grad()
    def __call__(self, index: Int[Tensor, " n"], noise: Noise, kl_weight: float) -> Gradients:
        """Gradients of `CVAE.training_loss`, the mean loss of a minibatch.

        Args:
            index: its cells among those of the network.
            noise: as `CVAE.draw_noise` gives it.
            kl_weight: weight of the KL divergence of z.
        """
        cells = self.cvae.minibatch(self.cells, index)
        projection = self.projection.rows(index)
        loss = self.cvae.training_loss(cells, noise, kl_weight, projection=projection)
        found = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        return dict(zip(self.parameters, found, strict=True))
