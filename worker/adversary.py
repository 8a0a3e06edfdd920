"""A classifier that tells batches apart by their latents, and what a network learns to fool it by.

With proteins that a batch was not measured for, cells would come to lie by what is missing. While
the KL weight is below 1 the network therefore also pays for a batch that can be told, as totalVI
does (Gayoso, Steier et al. 2021). MULTIVI pays in full to the end, whatever its cells lack: a
batch may have another modality than the next (decision 0073).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from models_store.cells import Cells, Noise, Projection
from models_store.cvae import CVAE
from models_store.multivi import MULTIVI

HIDDEN, DROPOUT = 32, 0.1
LEARNING_RATE, EPS = 1e-3, 0.01
WEIGHT_DECAY, WEIGHT_DECAY_OF_MODALITIES = 1e-6, 1e-3
"""Of scvi-tools' adversarial training plan; the latter for MULTIVI."""


class Adversary:
    """The classifier of the batches of one network in training.

    Args:
        cvae: the network, on the device of its cells.
    """

    def __init__(self, cvae: CVAE) -> None:
        self.cvae, self.n_batches = cvae, cvae.n_categories[0]
        self.lasts = isinstance(cvae, MULTIVI)
        decay = WEIGHT_DECAY_OF_MODALITIES if self.lasts else WEIGHT_DECAY
        n_latent = cvae.architecture.n_latent
        layers: list[nn.Module] = []
        for n_in in (n_latent, HIDDEN):
            layers += [nn.Linear(n_in, HIDDEN), nn.BatchNorm1d(HIDDEN, eps=1e-3, momentum=0.01)]
            layers += [nn.ReLU(), nn.Dropout(DROPOUT)]
        self.classifier = nn.Sequential(*layers, nn.Linear(HIDDEN, self.n_batches)).to(cvae.device)
        self.optimiser = torch.optim.Adam(
            self.classifier.parameters(), lr=LEARNING_RATE, eps=EPS, weight_decay=decay
        )

    @classmethod
    def where_needed(cls, cvae: CVAE, training: Cells) -> "Adversary | None":
        """One where there are batches to tell, and one lacks proteins that another has or the
        network is of modalities."""
        needed = training.measured is not None or isinstance(cvae, MULTIVI)
        return cls(cvae) if needed and cvae.n_categories[0] > 1 else None

    def weight(self, kl_weight: float) -> float:
        """How much fooling it counts, at this KL weight."""
        return 1.0 if self.lasts else 1 - kl_weight

    def pressure(
        self, cells: Cells, projection: Projection, noise: Noise, weight: float
    ) -> Float[Tensor, ""]:
        """What the network pays for batches that can be told; the classifier learns from the same.

        Args:
            cells: a minibatch.
            projection: theirs.
            noise: their draws.
            weight: how much it counts, from 1 when training begins to 0.
        """
        if weight == 0:
            return noise.z.new_zeros(())
        z = self.cvae.sample(self.cvae.posterior(projection, cells.codes), noise.z)
        batch = torch.as_tensor(cells.codes[0], device=z.device).expand(len(z))
        self._learn(z.detach(), batch, weight)
        others = 1.0 - one_hot(batch, self.n_batches).to(z.dtype)
        logits = self.classifier(z)
        return weight * cross_entropy(logits, others / (self.n_batches - 1))

    def _learn(self, z: Float[Tensor, "c z"], batch: Int[Tensor, " c"], weight: float) -> None:
        self.optimiser.zero_grad()
        torch.autograd.backward(weight * cross_entropy(self.classifier(z), batch))
        self.optimiser.step()
