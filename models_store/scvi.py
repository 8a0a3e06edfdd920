"""The scVI conditional VAE (Lopez et al. 2018), split so that surgery is easy to see and check.

    q(z | x, s) = N(m, v)      m, log v from the encoder of log(1 + x) and the covariates s
    p(x | z, s, l)             mean μ = l · scale(decoder(z, s)), dispersion θ, zero inflation π
    loss = mean_cells( -log p(x | z) + w KL(q(z) || N(0, I)) + KL(q(l) || p(l)) )

Notation as in `layers`: c cells, g genes, h hidden units, z latent, k categories.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models_store.layers import CategoryRows, Code, Codes, FullyConnected, look_up
from models_store.manifest import Architecture, Manifest
from models_store.reconstruction import (
    DecoderOutput,
    Head,
    negative_log_likelihood,
    reconstruction_slope,
)

VARIANCE_EPS = 1e-4
LN_SAMPLES = 5000
LN_SEED = 0


Rows = Int[Tensor, " n"] | slice
"""Which cells: in that order and copied, or a range of them, seen in place."""


def take(values: Tensor, rows: Rows) -> Tensor:
    """The values of some cells."""
    # Copies whole rows; plain indexing is 3 times slower.
    return values[rows] if isinstance(rows, slice) else values.index_select(0, rows)


@dataclass(frozen=True)
class Cells:
    """A minibatch, or any set of cells, aligned to the gene panel."""

    x: Float[Tensor, "c g"]
    codes: Codes
    """For the batch and then each extra covariate, the category of every cell."""
    continuous: Float[Tensor, "c n"] | None = None
    labels: Int[Tensor, " c"] | None = None
    """Label codes, for gene-label dispersion; the number of labels stands for `unknown`."""
    size_factor: Float[Tensor, " c"] | None = None


@dataclass(frozen=True)
class Projection:
    """All that the encoders take from a cell's counts: constant while the reference is frozen."""

    z: Float[Tensor, "c h"]
    library: Float[Tensor, "c h"] | None
    """First layer of the library encoder, when the library is latent."""
    log_library: Float[Tensor, "c 1"]
    """Observed log library or log size factor; zeros when the library is latent."""

    def rows(self, rows: Rows) -> "Projection":
        """The projections of some of the cells."""
        library = None if self.library is None else take(self.library, rows)
        return Projection(take(self.z, rows), library, take(self.log_library, rows))

    def to(self, device: torch.device) -> "Projection":
        """The same on another device; on its own, itself."""
        library = None if self.library is None else self.library.to(device)
        return Projection(self.z.to(device), library, self.log_library.to(device))


@dataclass(frozen=True)
class Posterior:
    """A diagonal normal: mean m and variance v, (c, n)."""

    m: Float[Tensor, "c n"]
    v: Float[Tensor, "c n"]

    def sample(self, noise: Float[Tensor, "c n"]) -> Float[Tensor, "c n"]:
        """Reparameterised draws m + √v · noise."""
        return self.m + self.v.sqrt() * noise

    def kl_standard(self) -> Float[Tensor, " c"]:
        """KL(N(m, v) || N(0, I)) = ½ Σ (v + m² - 1 - log v)."""
        return 0.5 * (self.v + self.m**2 - 1 - self.v.log()).sum(-1)

    def kl(self, mean: Float[Tensor, "c n"], variance: Float[Tensor, "c n"]) -> Float[Tensor, " c"]:
        """KL(N(m, v) || N(mean, variance))."""
        ratio = self.v / variance
        return 0.5 * (ratio + (self.m - mean) ** 2 / variance - 1 - ratio.log()).sum(-1)


@dataclass(frozen=True)
class Noise:
    """Standard normal draws for the reparameterised z and, when it is latent, the library."""

    z: Float[Tensor, "c z"]
    library: Float[Tensor, "c 1"] | None = None


@dataclass(frozen=True)
class LossTerms:
    """The loss of each cell, term by term, in nats."""

    reconstruction: Float[Tensor, " c"]
    kl_z: Float[Tensor, " c"]
    kl_library: Float[Tensor, " c"]

    def loss(self, kl_weight: float) -> Float[Tensor, ""]:
        """Mean over cells; the KL of a latent library is never weighted down."""
        return (self.reconstruction + kl_weight * self.kl_z + self.kl_library).mean()


class Encoder(nn.Module):
    """q(n | x, s): FCLayers, then m = linear(h) and v = exp(linear(h)) + 1e-4."""

    def __init__(
        self, n_in: int, n_out: int, a: Architecture, *, n_layers: int, n_categories: Sequence[int]
    ) -> None:
        super().__init__()
        self.layers = FullyConnected(
            n_in,
            a.n_hidden,
            n_layers=n_layers,
            n_categories=n_categories,
            inject_deeply=a.deeply_inject_covariates,
            batch_norm=a.batch_norm in ("encoder", "both"),
            layer_norm=a.layer_norm in ("encoder", "both"),
            dropout_rate=a.dropout_rate,
        )
        self.mean = nn.Linear(a.n_hidden, n_out)
        self.log_variance = nn.Linear(a.n_hidden, n_out)

    def forward(self, projection: Float[Tensor, "c h"], codes: Codes) -> Posterior:
        """From the first layer's projection to the posterior."""
        h = self.layers.finish(projection, codes)
        return Posterior(self.mean(h), self.log_variance(h).exp() + VARIANCE_EPS)


class Decoder(nn.Module):
    """z and covariates to the raw outputs of the likelihood; no dropout."""

    def __init__(self, n_in: int, a: Architecture, n_categories: Sequence[int]) -> None:
        super().__init__()
        self.layers = FullyConnected(
            n_in,
            a.n_hidden,
            n_layers=a.n_layers,
            n_categories=n_categories,
            inject_deeply=a.deeply_inject_covariates,
            batch_norm=a.batch_norm in ("decoder", "both"),
            layer_norm=a.layer_norm in ("decoder", "both"),
            dropout_rate=0.0,
        )
        self.scale = nn.Linear(a.n_hidden, a.n_genes)
        self.pi = nn.Linear(a.n_hidden, a.n_genes) if a.likelihood == "zinb" else None
        self.log_theta = nn.Linear(a.n_hidden, a.n_genes) if a.dispersion == "gene-cell" else None

    @property
    def n_outputs(self) -> int:
        """Numbers that the output layers give for each cell."""
        heads = (self.scale, self.pi, self.log_theta)
        return sum(head.out_features for head in heads if head is not None)


class Dispersion(nn.Module):
    """log θ of each gene, one row for all cells, for each batch, or for each label.

    scvi-tools stores the transpose (`px_r`). New batches start at the mean row and learn; cells
    of an unknown label use the mean row as it is.
    """

    def __init__(self, n_rows: int, n_genes: int) -> None:
        super().__init__()
        self.reference = nn.Parameter(torch.randn(n_rows, n_genes))
        self.query = nn.Parameter(torch.empty(0, n_genes))

    def forward(self, code: Code) -> Float[Tensor, "*c g"]:
        """log θ of each cell, by the row that its code names."""
        return look_up(self.reference, self.query, code)


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

    def project(self, cells: Cells) -> Projection:
        """What the encoders take from the counts, and the log library. Empty cells get log 1."""
        a = self.architecture
        x = torch.log1p(cells.x) if a.log_variational else cells.x
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

    def latent(self, posterior: Posterior) -> Float[Tensor, "c z"]:
        """The coordinates of a cell: m, or for `ln` the mean of softmax over draws of N(m, v).

        The draws are the same for every cell and every call, so a latent depends on its cell only.
        """
        if self.architecture.latent_distribution == "normal":
            return posterior.m
        generator = torch.Generator().manual_seed(LN_SEED)
        draws = torch.randn(LN_SAMPLES, posterior.m.shape[1], generator=generator)
        sd, total = posterior.v.sqrt(), torch.zeros_like(posterior.m)
        for noise in draws.to(posterior.m.device):
            total = total + torch.softmax(posterior.m + sd * noise, dim=-1)
        return total / LN_SAMPLES

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
        log_theta = self._log_theta(h, cells)
        return DecoderOutput(self.decoder.scale(h), log_library, log_theta, pi)

    def _log_theta(self, h: Float[Tensor, "c h"], cells: Cells) -> Float[Tensor, "*#c g"]:
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

    def generate(
        self, cells: Cells, projection: Projection, noise: Noise
    ) -> tuple[DecoderOutput, Float[Tensor, " c"], Float[Tensor, " c"]]:
        """One pass with given noise: decoder outputs, KL of z, KL of the library, per cell."""
        q_z = self.posterior(projection, cells.codes)
        q_library = self.posterior_library(projection, cells.codes)
        log_library, kl_library = projection.log_library, torch.zeros_like(q_z.m[:, 0])
        if q_library is not None:
            assert noise.library is not None
            log_library = q_library.sample(noise.library)
            prior = self.library_prior[cells.codes[0]].view(-1, 2)
            kl_library = q_library.kl(prior[:, :1], prior[:, 1:])
        out = self.decode(self.sample(q_z, noise.z), log_library, cells)
        return out, q_z.kl_standard(), kl_library

    def loss_terms(
        self, cells: Cells, noise: Noise, projection: Projection | None = None
    ) -> LossTerms:
        """Every term of the loss with given noise, in full (training uses the slope alone)."""
        projection = projection or self.project(cells)
        out, kl_z, kl_library = self.generate(cells, projection, noise)
        return LossTerms(negative_log_likelihood(self.head, cells.x, out), kl_z, kl_library)

    def training_loss(
        self,
        cells: Cells,
        noise: Noise,
        kl_weight: float,
        *,
        projection: Projection | None = None,
    ) -> Float[Tensor, ""]:
        """A scalar whose gradient is that of the loss, at a fraction of the cost.

        Its value leaves out the reconstruction: see `reconstruction_slope`.
        """
        projection = projection or self.project(cells)
        out, kl_z, kl_library = self.generate(cells, projection, noise)
        slope = reconstruction_slope(self.head, cells.x, out)
        return (slope + (kl_weight * kl_z + kl_library).sum()) / len(cells.x)

    def draw_noise(self, n_cells: int, generator: torch.Generator) -> Noise:
        """Standard normal draws, from a CPU generator so that a seed means the same everywhere."""
        device = self.library_prior.device
        z = torch.randn(n_cells, self.architecture.n_latent, generator=generator)
        if self.library_encoder is None:
            return Noise(z.to(device))
        return Noise(z.to(device), torch.randn(n_cells, 1, generator=generator).to(device))

    def category_rows(self) -> dict[str, CategoryRows]:
        """Every table of category rows by its path in the network, in a stable order."""
        return {name: m for name, m in self.named_modules() if isinstance(m, CategoryRows)}


def select_cells(cells: Cells, rows: Rows) -> Cells:
    """Some of the cells."""

    def each(values: Tensor | None) -> Tensor | None:
        return None if values is None else take(values, rows)

    return replace(
        cells,
        x=take(cells.x, rows),
        codes=tuple(code if isinstance(code, int) else take(code, rows) for code in cells.codes),
        continuous=each(cells.continuous),
        labels=each(cells.labels),
        size_factor=each(cells.size_factor),
    )
