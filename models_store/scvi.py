"""The scVI conditional VAE (Lopez et al. 2018), split so that surgery is easy to see and check.

    q(z | x, s) = N(m, v)      m, log v from the encoder of log(1 + x) and the covariates s
    p(x | z, s, l)             mean μ = l · scale(decoder(z, s)), dispersion θ, zero inflation π
    loss = mean_cells( -log p(x | z) + w KL(q(z) || N(0, I)) + KL(q(l) || p(l)) )

Notation as in `layers`: c cells, g genes, h hidden units, z latent, k categories.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.cells import Cells, Noise, Posterior, Projection
from models_store.coders import Decoder, Dispersion, Encoder
from models_store.cvae import CVAE, LossTerms
from models_store.layers import Activation, Codes
from models_store.outputs import OUTPUTS_OF, OutputName
from models_store.reconstruction import (
    DecoderOutput,
    Head,
    negative_log_likelihood,
    reconstruction_slope,
)


@dataclass(frozen=True)
class Generated:
    """One pass of cells through the network."""

    out: DecoderOutput
    q_z: Posterior
    z: Float[Tensor, "c z"]
    kl_library: Float[Tensor, " c"]


class SCVI(CVAE):
    """The conditional VAE of one reference version.

    The arguments are those of `CVAE`; labels are for gene-label dispersion.
    """

    see_covariates = ("z_encoder", "library_encoder", "decoder")
    outputs: ClassVar[tuple[OutputName, ...]] = OUTPUTS_OF["scvi"]
    activation: ClassVar[Activation] = "relu"
    """Of the hidden layers of encoders and decoder."""

    def lay_out(self) -> None:
        """See `CVAE`."""
        a = self.architecture
        self.head = Head(a.likelihood, softplus_scale=a.library == "size_factor")
        n_in, sees = a.n_features + self.n_continuous_encoded, self.seen_by_encoders
        encoder = partial(Encoder, n_in, a=a, n_categories=sees, activation=self.activation)
        self.z_encoder = encoder(a.n_latent, n_layers=a.n_layers)
        self.library_encoder = encoder(1, n_layers=1) if a.library == "latent" else None
        self.decoder = Decoder(
            a.n_latent + self.n_continuous, a, self.n_categories, activation=self.activation
        )
        rows = {"gene": 1, "gene-batch": self.n_categories[0], "gene-label": self.n_labels}
        self.dispersion = Dispersion(rows.get(a.dispersion, 0), a.n_features)

    def project(self, cells: Cells, log_x: Float[Tensor, "c g"] | None = None) -> Projection:
        """What the encoders take from the counts, and the log library. Empty cells get log 1.

        `log_x`: log(1 + x), where it is known and the network looks at it.
        """
        a = self.architecture
        x = cells.x
        if a.log_variational:
            x = torch.log1p(x) if log_x is None else log_x
        if a.encode_covariates and cells.continuous is not None:
            x = torch.cat([x, cells.continuous], dim=-1)
        library = None
        if a.library == "size_factor":
            assert cells.size_factor is not None
            log_library = cells.size_factor.unsqueeze(1).log()
        elif self.library_encoder is None:
            total = cells.x.sum(-1, keepdim=True)
            log_library = torch.where(total > 0, total, torch.ones_like(total)).log()
        else:
            library = self.library_encoder.layers.project(x)
            log_library = x.new_zeros(len(x), 1)
        return Projection(self.z_encoder.layers.project(x), library, log_library)

    def posterior(self, projection: Projection, codes: Codes) -> Posterior:
        """q(z | x, s)."""
        posterior: Posterior = self.z_encoder(projection.z, codes)
        return posterior

    def posterior_library(self, projection: Projection, codes: Codes) -> Posterior | None:
        """q(l | x, s), when the library is latent."""
        if self.library_encoder is None or projection.library is None:
            return None
        posterior: Posterior = self.library_encoder(projection.library, codes)
        return posterior

    def decode(
        self, z: Float[Tensor, "c z"], log_library: Float[Tensor, "c 1"], cells: Cells
    ) -> DecoderOutput:
        """Raw outputs of the likelihood's parameters."""
        if cells.continuous is not None:
            z = torch.cat([z, cells.continuous], dim=-1)
        return self.emit(self.decoder.layers(z, cells.codes), log_library, cells)

    def emit(
        self, h: Float[Tensor, "c h"], log_library: Float[Tensor, "c 1"], cells: Cells
    ) -> DecoderOutput:
        """The decoder's raw outputs from its last hidden layer."""
        pi = None if self.decoder.pi is None else self.decoder.pi(h)
        log_theta = self.log_theta(h, cells)
        return DecoderOutput(self.decoder.scale(h), log_library, log_theta, pi)

    def log_theta(self, h: Float[Tensor, "c h"], cells: Cells) -> Float[Tensor, "*#c g"]:
        """log θ of each gene, for all cells or for each."""
        if self.decoder.log_theta is not None:
            return torch.as_tensor(self.decoder.log_theta(h))
        if self.architecture.dispersion == "gene-batch":
            return torch.as_tensor(self.dispersion(cells.codes[0]))
        if self.architecture.dispersion == "gene-label":
            assert cells.labels is not None
            known = self.dispersion.reference
            rows = torch.cat([known, known.detach().mean(0, keepdim=True)])
            return nn.functional.embedding(cells.labels, rows)
        return self.dispersion.reference[0]

    def generate(self, cells: Cells, projection: Projection, noise: Noise) -> Generated:
        """One pass with given noise."""
        q_z = self.posterior(projection, cells.codes)
        q_library = self.posterior_library(projection, cells.codes)
        log_library, kl_library = projection.log_library, torch.zeros_like(q_z.m[:, 0])
        if q_library is not None:
            assert noise.library is not None
            log_library = q_library.sample(noise.library)
            prior = self.library_prior[cells.codes[0]].view(-1, 2)
            kl_library = q_library.kl(prior[:, :1], prior[:, 1:])
        z = self.sample(q_z, noise.z)
        return Generated(self.decode(z, log_library, cells), q_z, z, kl_library)

    def terms(
        self,
        cells: Cells,
        made: Generated,
        noise: Noise,
        reconstruction: Float[Tensor, " c"],
        labelled: Cells | None = None,
    ) -> LossTerms:
        """The terms of the loss beside the reconstruction; `labelled` is for networks of labels."""
        return LossTerms(reconstruction, made.q_z.kl_standard(), made.kl_library)

    def loss_terms(
        self, cells: Cells, noise: Noise, projection: Projection | None = None
    ) -> LossTerms:
        """Every term of the loss with given noise, in full (training uses the slope alone)."""
        projection = projection or self.project(cells)
        made = self.generate(cells, projection, noise)
        return self.terms(cells, made, noise, negative_log_likelihood(self.head, cells.x, made.out))

    def training_loss(
        self,
        cells: Cells,
        noise: Noise,
        kl_weight: float,
        *,
        projection: Projection | None = None,
        labelled: Cells | None = None,
    ) -> Float[Tensor, ""]:
        """A scalar whose gradient is that of the loss, at a fraction of the cost.

        Its value leaves out the reconstruction: see `reconstruction_slope`.

        Args:
            cells: a minibatch.
            noise: standard normal draws.
            kl_weight: weight of the KL divergence of z.
            projection: the cells' own, where it is known.
            labelled: cells that a classifier learns from, beside the minibatch; None: those of
                the minibatch whose label is known.
        """
        projection = projection or self.project(cells)
        made = self.generate(cells, projection, noise)
        slope = reconstruction_slope(self.head, cells.x, made.out)
        terms = self.terms(cells, made, noise, torch.zeros_like(made.kl_library), labelled)
        return terms.loss(kl_weight) + slope / len(cells.x)

    def draw_noise(self, n_cells: int, generator: torch.Generator) -> Noise:
        """Of z, and of a latent library."""
        noise = super().draw_noise(n_cells, generator)
        if self.library_encoder is None:
            return noise
        library = torch.randn(n_cells, 1, generator=generator).to(self.device)
        return replace(noise, library=library)

    @property
    def library_is_latent(self) -> bool:
        """Whether a mapping keeps a prior of the library of each of its batches."""
        return self.library_encoder is not None

    def batch_tables(self) -> Iterator[Dispersion]:
        """The dispersion, where it is of each batch."""
        if self.architecture.dispersion == "gene-batch":
            yield self.dispersion

    def decoded(
        self, output: OutputName, z: Float[Tensor, "c z"], cells: Cells
    ) -> Float[Tensor, "c g"]:
        """The scale, which a library multiplies; with size factors its rows do not sum to 1."""
        if cells.continuous is not None:
            z = torch.cat([z, cells.continuous], dim=-1)
        return self.head.scale(self.decoder.scale(self.decoder.layers(z, cells.codes)))

    def expected_shares(self, z: Float[Tensor, "c z"], codes: Codes) -> Float[Tensor, "c g"]:
        """μ (1 - σ(π)) / Σ_g μ (1 - σ(π)) at z, π of zinb alone; continuous covariates are 0."""
        n = len(z)
        cells = Cells(
            z.new_zeros(n, self.architecture.n_features),
            codes,
            self.no_continuous(n),
            # The code of an unknown label.
            torch.full((n,), len(self.dispersion.reference), device=z.device),
        )
        out = self.decode(z, z.new_zeros(n, 1), cells)
        mu = self.head.scale(out.logits)
        if out.pi is not None:
            mu = mu * torch.sigmoid(-out.pi)
        return mu / mu.sum(-1, keepdim=True)
