"""A classifier that guesses the batch of a cell from its latent, which a network learns to fool.

As scvi-tools trains it: two hidden layers, and the network is drawn towards latents of which the
classifier thinks that they are of any batch but their own. It is no part of the reference.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, one_hot

from models_store.cells import Cells, Noise
from models_store.layers import FullyConnected
from models_store.multivi import MULTIVI

N_HIDDEN, N_LAYERS, DROPOUT_RATE = 32, 2, 0.1
LEARNING_RATE, ADAM_EPS = 1e-3, 0.01


class Adversary(nn.Module):
    """One classifier and its own optimiser.

    Args:
        n_latent: dimensions of z.
        n_batches: batches that it tells apart, at least two.
        weight_decay: of its optimiser; scvi-tools takes the network's own.
    """

    def __init__(self, n_latent: int, n_batches: int, *, weight_decay: float) -> None:
        super().__init__()
        self.layers = FullyConnected(
            n_latent,
            N_HIDDEN,
            n_layers=N_LAYERS,
            n_categories=(),
            inject_deeply=False,
            batch_norm=True,
            layer_norm=False,
            dropout_rate=DROPOUT_RATE,
        )
        self.output = nn.Linear(N_HIDDEN, n_batches)
        self.optimiser = torch.optim.Adam(
            self.parameters(), lr=LEARNING_RATE, eps=ADAM_EPS, weight_decay=weight_decay
        )

    def forward(self, z: Float[Tensor, "c z"]) -> Float[Tensor, "c k"]:
        """A logit for each batch."""
        return torch.as_tensor(self.output(self.layers(z, ())))

    def fool(self, z: Float[Tensor, "c z"], batch: Int[Tensor, " c"]) -> Float[Tensor, ""]:
        """Mean cross-entropy with all batches but a cell's own: what the network adds to its loss.

        The gradients that it leaves in the classifier's own weights are for nobody.
        """
        log_p = log_softmax(self(z), dim=-1)
        n_batches = log_p.shape[1]
        others = (1 - one_hot(batch, n_batches).to(log_p.dtype)) / (n_batches - 1)
        return -(others * log_p).sum(-1).mean()

    def learn(
        self, z: Float[Tensor, "c z"], batch: Int[Tensor, " c"], *, share: float = 1.0
    ) -> None:
        """One step of the classifier itself; `share`: what its loss is multiplied by."""
        loss = share * cross_entropy(self(z.detach()), batch)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.optimiser.step()


class AdversarialLoss:
    """The training loss of a network with what fooling its adversary adds (scvi-tools: at 1)."""

    def __init__(self, cvae: MULTIVI, *, weight_decay: float) -> None:
        self.cvae = cvae
        n_latent, n_batches = cvae.architecture.n_latent, cvae.n_categories[0]
        adversary = Adversary(n_latent, n_batches, weight_decay=weight_decay)
        self.adversary = adversary.to(cvae.device).train()
        self.seen: tuple[Tensor, Tensor] | None = None

    def __call__(
        self, cells: Cells, noise: Noise, kl_weight: float, *, labelled: Cells | None = None
    ) -> Float[Tensor, ""]:
        """Of a minibatch, as `CVAE.training_loss` has it."""
        batch = cells.codes[0]
        assert not isinstance(batch, int)
        loss, z = self.cvae.loss_and_draw(cells, noise, kl_weight)
        self.seen = z.detach(), batch
        return loss + self.adversary.fool(z, batch)

    def after_step(self) -> None:
        """The adversary learns from the draws that the network was just trained at."""
        assert self.seen is not None
        self.adversary.learn(*self.seen)
