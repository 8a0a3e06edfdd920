"""scANVI (Xu et al. 2021): the scVI network with labels y, and a classifier that predicts them.

    q(z1 | x, s), p(x | z1, s, l)    the encoder and the decoder of `scvi`; its z is z1 here
    q(y | z1)                        p_k = softmax(classifier(z1))
    q(z2 | z1, y), p(z1 | z2, y)     normal, each from a network that sees the label in every layer

A cell is scored under every label k, and each score counts by the probability of that label:

    loss = mean_cells( -log p(x | z1) + log q(z1 | x) - Σ_k p_k log p(z1 | z2_k, k) + w KL )
           + 50 mean_labelled( -log softmax(classifier(m))_y )
    KL = Σ_k p_k KL(q(z2 | z1, k) || N(0, I)) + KL(p || p(y)) + KL(q(l) || p(l))

with z1, z2 drawn and m the mean of q(z1 | x). Notation as in `scvi`; k also counts labels.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax
from torch.utils.checkpoint import checkpoint

from models_store.cells import Cells, Noise, Posterior
from models_store.coders import Encoder, norms
from models_store.cvae import LossTerms
from models_store.layers import Codes, FullyConnected
from models_store.manifest import Architecture
from models_store.narrow_products import Head
from models_store.scvi import SCVI, Generated

CLASSIFICATION_RATIO = 50.0
"""Weight of the mean cross-entropy of labelled cells beside the mean loss of all cells."""

MOST_ROWS = 32_768
"""Labels x cells that are scored at once: what a score needs of memory has a bound whatever the
number of labels is (decision 0041)."""


@dataclass(frozen=True)
class LabelTerms:
    """What the labels add to the loss of each cell, in nats, averaged over its labels by p."""

    surprise: Float[Tensor, " c"]
    """Σ_k p_k (-log p(z1 | z2_k, k))."""
    kl: Float[Tensor, " c"]
    """Σ_k p_k KL(q(z2 | z1, k) || N(0, I)) + KL(p || p(y))."""


@dataclass(frozen=True)
class LabelledLossTerms(LossTerms):
    """The loss of each cell, `kl_z` being that of z2 and y; and the cross-entropy of all."""

    classification: Float[Tensor, ""]

    def loss(self, kl_weight: float) -> Float[Tensor, ""]:
        """Here the KL of a latent library is weighted like the others."""
        per_cell = self.reconstruction + kl_weight * (self.kl_z + self.kl_library)
        return per_cell.mean() + CLASSIFICATION_RATIO * self.classification


class Classifier(nn.Module):
    """z1 to a logit for each label, through hidden layers or by one linear map."""

    def __init__(self, a: Architecture, n_labels: int) -> None:
        super().__init__()
        self.layers = (
            None
            if a.linear_classifier
            else FullyConnected(
                a.n_latent,
                a.n_hidden,
                n_layers=a.n_layers,
                n_categories=(),
                inject_deeply=False,
                dropout_rate=a.dropout_rate,
                **norms(a, "encoder"),
            )
        )
        self.output = Head(a.n_latent if a.linear_classifier else a.n_hidden, n_labels)

    def forward(self, z: Float[Tensor, "c z"]) -> Float[Tensor, "c k"]:
        """Logits."""
        return torch.as_tensor(self.output(z if self.layers is None else self.layers(z, ())))


class LatentDecoder(nn.Module):
    """p(z1 | z2, y): FCLayers, then m = linear(h) and v = exp(linear(h)); no dropout."""

    def __init__(self, a: Architecture, n_labels: int) -> None:
        super().__init__()
        self.layers = FullyConnected(
            a.n_latent,
            a.n_hidden,
            n_layers=a.n_layers,
            n_categories=(n_labels,),
            inject_deeply=True,
            dropout_rate=0.0,
            **norms(a, "decoder"),
        )
        self.mean = Head(a.n_hidden, a.n_latent)
        self.log_variance = Head(a.n_hidden, a.n_latent)

    def forward(self, z: Float[Tensor, "c z"], codes: Codes) -> Posterior:
        """The distribution of z1; the codes are those of one covariate, the label."""
        h = self.layers(z, codes)
        return Posterior(self.mean(h), self.log_variance(h).exp())


class SCANVI(SCVI):
    """The conditional VAE with labels of one reference version.

    The arguments are those of `CVAE`.
    """

    def lay_out(self) -> None:
        """Those of SCVI, and what tells labels."""
        super().lay_out()
        a, n_labels = self.architecture, self.n_labels
        deep = a.model_copy(update={"deeply_inject_covariates": True})
        self.classifier = Classifier(a, n_labels)
        self.encoder_z2_z1 = Encoder(
            a.n_latent, a.n_latent, deep, n_layers=a.n_layers, n_categories=(n_labels,)
        )
        self.decoder_z1_z2 = LatentDecoder(a, n_labels)
        self.register_buffer("y_prior", torch.full((n_labels,), 1 / n_labels))
        self.y_prior: Tensor

    def label_probabilities(self, m: Float[Tensor, "c z"]) -> Float[Tensor, "c k"]:
        """Probability of each label of cells with these posterior means."""
        return torch.softmax(self.classifier(m), dim=-1)

    def label_terms(self, z1: Float[Tensor, "c z"], noise: Float[Tensor, "k c z"]) -> LabelTerms:
        """The scores of each cell under all labels, averaged by p; in blocks of cells.

        Where gradients follow, a block is scored again on the way back and not kept. Only the
        batch norm of a network in training, whose statistics are of all rows, sees them at once.
        """
        blocks = self._blocks(z1)
        if len(blocks) == 1 or (self.training and self._has_batch_norm):
            return self._score(z1, noise)
        parts: list[LabelTerms] = []
        for cells in blocks:
            block = z1[cells], noise[:, cells]
            if torch.is_grad_enabled():
                parts.append(checkpoint(self._score, *block, use_reentrant=False))
            else:
                parts.append(self._score(*block))
        return LabelTerms(
            torch.cat([part.surprise for part in parts]), torch.cat([part.kl for part in parts])
        )

    @property
    def _has_batch_norm(self) -> bool:
        return self.architecture.batch_norm != "none"

    def _blocks(self, z1: Float[Tensor, "c z"]) -> list[slice]:
        """Ranges of cells with at most `MOST_ROWS` rows each, at least one cell; one for none."""
        size = max(1, MOST_ROWS // self.n_labels)
        return [slice(start, start + size) for start in range(0, max(1, len(z1)), size)]

    def _score(self, z1: Float[Tensor, "c z"], noise: Float[Tensor, "k c z"]) -> LabelTerms:
        """Of all these cells at once, one label after the other."""
        k, n = self.n_labels, len(z1)
        codes = (torch.arange(k, device=z1.device).repeat_interleave(n),)
        first = self.encoder_z2_z1.layers.project(z1)  # the same for every label
        q_z2: Posterior = self.encoder_z2_z1(first.repeat(k, 1), codes)
        p_z1: Posterior = self.decoder_z1_z2(q_z2.sample(noise.flatten(0, 1)), codes)
        log_p = log_softmax(self.classifier(z1), dim=-1)
        p = log_p.exp()  # (c, k)
        surprise = p_z1.surprise(z1.repeat(k, 1)).view(k, n).T
        kl_z2 = q_z2.kl_standard().view(k, n).T
        kl = p * (kl_z2 + log_p - self.y_prior.log())
        return LabelTerms((p * surprise).sum(-1), kl.sum(-1))

    def classification(
        self, m: Float[Tensor, "c z"], labels: Int[Tensor, " c"] | None
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy of the cells whose label is known; 0 where none is."""
        known = None if labels is None else torch.nonzero(labels < self.n_labels).squeeze(1)
        if labels is None or known is None or not len(known):
            return m.new_zeros(())
        return cross_entropy(self.classifier(m[known]), labels[known])

    def terms(
        self,
        cells: Cells,
        made: Generated,
        noise: Noise,
        reconstruction: Float[Tensor, " c"],
        labelled: Cells | None = None,
    ) -> LabelledLossTerms:
        """The terms of the loss beside -log p(x | z1)."""
        assert noise.z2 is not None
        labels = self.label_terms(made.z, noise.z2)
        m, y = made.q_z.m, cells.labels
        if labelled is not None:
            m, y = self.posterior(self.project(labelled), labelled.codes).m, labelled.labels
        return LabelledLossTerms(
            reconstruction - made.q_z.surprise(made.z) + labels.surprise,
            labels.kl,
            made.kl_library,
            self.classification(m, y),
        )

    def label_gradients(
        self,
        z1: Float[Tensor, "c z"],
        m: Float[Tensor, "c z"],
        noise: Noise,
        labels: Int[Tensor, " c"] | None,
        kl_weight: float,
    ) -> tuple[Float[Tensor, "c z"], Float[Tensor, "c z"]]:
        """Of what the labels add to the summed loss of the cells: by z1, and by m.

        By autograd over tensors as wide as the latent; no gene takes part.
        """
        assert noise.z2 is not None
        with torch.enable_grad():
            parts: list[Tensor] = []
            for cells in self._blocks(z1):
                block = z1[cells].detach().requires_grad_()
                terms = self.label_terms(block, noise.z2[:, cells])
                parts += torch.autograd.grad((terms.surprise + kl_weight * terms.kl).sum(), block)
            g_z1, m = torch.cat(parts), m.detach().requires_grad_()
            entropy = self.classification(m, labels)
            if not entropy.requires_grad:  # no label is known
                return g_z1, torch.zeros_like(m)
            (g_m,) = torch.autograd.grad(CLASSIFICATION_RATIO * len(m) * entropy, m)
        return g_z1, g_m

    def draw_noise(self, n_cells: int, generator: torch.Generator) -> Noise:
        """As `SCVI` draws it, then z2 for every label and cell."""
        noise, device = super().draw_noise(n_cells, generator), self.library_prior.device
        shape = (self.n_labels, n_cells, self.architecture.n_latent)
        return Noise(noise.z, noise.library, torch.randn(shape, generator=generator).to(device))
