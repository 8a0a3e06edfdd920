"""The scVI conditional VAE (Lopez et al. 2018), split so that surgery is easy to see and check.

    q(z | x, s) = N(m, v)      m, log v from the encoder of log(1 + x) and the covariates s
    p(x | z, s, l)             mean μ = l · scale(decoder(z, s)), dispersion θ, zero inflation π
    loss = mean_cells( -log p(x | z) + w KL(q(z) || N(0, I)) + KL(q(l) || p(l)) )

Notation as in `layers`: c cells, g genes, h hidden units, z latent, k categories.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.cells import Cells, Noise, Posterior, Projection
from models_store.coders import Decoder, Dispersion, Encoder
from models_store.layers import CategoryRows, Codes, ConditionalLinear
from models_store.manifest import Architecture, Manifest
from models_store.reconstruction import (
    DecoderOutput,
    Head,
    negative_log_likelihood,
    reconstruction_slope,
)

LN_SAMPLES = 5000
LN_SEED = 0

SEE_COVARIATES = ("z_encoder", "library_encoder", "decoder")
"""The parts of a network whose layers look at the batch and the extra covariates."""


@dataclass(frozen=True)
class Generated:
    """One pass of cells through the network."""

    out: DecoderOutput
    q_z: Posterior
    z: Float[Tensor, "c z"]
    kl_library: Float[Tensor, " c"]


@dataclass(frozen=True)
class LossTerms:
    """The loss of each cell, term by term, in nats."""

    reconstruction: Float[Tensor, " c"]
    kl_z: Float[Tensor, " c"]
    kl_library: Float[Tensor, " c"]

    def loss(self, kl_weight: float) -> Float[Tensor, ""]:
        """Mean over cells; the KL of a latent library is never weighted down."""
        return (self.reconstruction + kl_weight * self.kl_z + self.kl_library).mean()

    @property
    def elbo(self) -> Float[Tensor, ""]:
        """Mean evidence lower bound of a cell, at KL weight 1."""
        return -(self.reconstruction + self.kl_z + self.kl_library).mean()


class SCVI(nn.Module):
    """The conditional VAE of one reference version.

    Args:
        architecture: sizes and options.
        n_categories: categories of the batch, then of each extra covariate.
        n_continuous: number of continuous covariates.
        n_labels: number of labels, for gene-label dispersion.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        n_categories: Sequence[int],
        n_continuous: int = 0,
        n_labels: int = 1,
    ) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.n_categories = tuple(n_categories)
        self.head = Head(a.likelihood, softplus_scale=a.library == "size_factor")
        encoder_sees = tuple(n_categories) if a.encode_covariates else ()
        n_in = a.n_genes + (n_continuous if a.encode_covariates else 0)
        self.z_encoder = Encoder(
            n_in, a.n_latent, a, n_layers=a.n_layers, n_categories=encoder_sees
        )
        self.library_encoder = (
            Encoder(n_in, 1, a, n_layers=1, n_categories=encoder_sees)
            if a.library == "latent"
            else None
        )
        self.decoder = Decoder(a.n_latent + n_continuous, a, n_categories)
        rows = {"gene": 1, "gene-batch": n_categories[0], "gene-label": n_labels, "gene-cell": 0}
        self.dispersion = Dispersion(rows[a.dispersion], a.n_genes)
        # Per batch: mean and variance of the log library, the prior of a latent library.
        self.register_buffer("library_prior", torch.tensor([[0.0, 1.0]]).repeat(n_categories[0], 1))
        self.library_prior: Tensor

    @classmethod
    def of(cls, manifest: Manifest) -> "SCVI":
        """The untrained network that a manifest describes."""
        covariates = (manifest.batch, *manifest.extra_covariates)
        return cls(
            manifest.architecture,
            n_categories=[len(covariate.categories) for covariate in covariates],
            n_continuous=len(manifest.continuous_covariates),
            n_labels=len(manifest.labels[0].categories) if manifest.labels else 1,
        )

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

    def latent(
        self, posterior: Posterior, *, most_draws: int | None = None
    ) -> Float[Tensor, "c z"]:
        """The coordinates of a cell: m, or for `ln` the mean of softmax over draws of N(m, v).

        The draws are the same for every cell and every call, so a latent depends on its cell only.
        `most_draws`: fewer are enough where coordinates are compared and not kept.
        """
        if self.architecture.latent_distribution == "normal":
            return posterior.m
        generator = torch.Generator().manual_seed(LN_SEED)
        n_draws = min(LN_SAMPLES, most_draws or LN_SAMPLES)
        draws = torch.randn(n_draws, posterior.m.shape[1], generator=generator)
        sd, total = posterior.v.sqrt(), torch.zeros_like(posterior.m)
        for noise in draws.to(posterior.m.device):
            total = total + torch.softmax(posterior.m + sd * noise, dim=-1)
        return total / n_draws

    def sample(self, posterior: Posterior, noise: Float[Tensor, "c z"]) -> Float[Tensor, "c z"]:
        """A draw of z, on the simplex for `ln`."""
        z = posterior.sample(noise)
        return torch.softmax(z, dim=-1) if self.architecture.latent_distribution == "ln" else z

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
        """Standard normal draws, from a CPU generator so that a seed means the same everywhere."""
        device = self.library_prior.device
        z = torch.randn(n_cells, self.architecture.n_latent, generator=generator)
        if self.library_encoder is None:
            return Noise(z.to(device))
        return Noise(z.to(device), torch.randn(n_cells, 1, generator=generator).to(device))

    def conditional_layers(self) -> Iterator[tuple[str, ConditionalLinear]]:
        """The layers that see the covariates, by their path in the network, in a stable order."""
        for name, module in self.named_modules():
            if isinstance(module, ConditionalLinear) and name.split(".")[0] in SEE_COVARIATES:
                yield name, module

    def category_rows(self) -> dict[str, CategoryRows]:
        """Every table of covariates' rows by its path in the network."""
        return {
            f"{name}.covariates.{i}": rows
            for name, layer in self.conditional_layers()
            for i, rows in enumerate(layer.covariate_rows())
        }
