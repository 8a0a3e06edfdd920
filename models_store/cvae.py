"""What every conditional VAE offers to surgery, fitting, encoding and building, whatever its kind.

A cell goes through one in three steps, so that what a frozen reference makes of its counts is
computed once: `project` (all that no query weight can change), `posterior` (q(z | x, s) by the rows
of its categories) and `latent`. Notation as in `layers`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.cells import Cells, Noise, Posterior, Projection, Rows, select_dense
from models_store.coders import Dispersion
from models_store.layers import CategoryRows, Codes, ConditionalLinear
from models_store.manifest import Architecture, Manifest
from models_store.outputs import OutputName

LN_SAMPLES = 5000
LN_SEED = 0


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


class CVAE(nn.Module):
    """The conditional VAE of one reference version.

    Args:
        architecture: sizes and options.
        n_categories: categories of the batch, then of each extra covariate.
        n_continuous: number of continuous covariates.
        n_labels: number of labels; cells without one have this number as their code.
    """

    see_covariates: ClassVar[tuple[str, ...]]
    """The parts of the network whose layers look at the batch and the extra covariates."""
    kl_share: ClassVar[float] = 1.0
    """What the loss in training takes of the KL divergence of z, at a KL weight of 1."""
    outputs: ClassVar[tuple[OutputName, ...]] = ()
    """What `decoded` gives."""
    decoded_at_mean: ClassVar[frozenset[OutputName]] = frozenset()
    """Those of them that scvi-tools decodes at the posterior's mean, where it is not told else."""

    def __init__(
        self,
        architecture: Architecture,
        *,
        n_categories: Sequence[int],
        n_continuous: int = 0,
        n_labels: int = 1,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.n_continuous, self.n_labels = n_continuous, n_labels
        self.n_categories = tuple(n_categories)
        # Per batch: mean and variance of the log library, the prior of a latent library.
        self.register_buffer("library_prior", torch.tensor([[0.0, 1.0]]).repeat(n_categories[0], 1))
        self.library_prior: Tensor
        self.lay_out()

    @abstractmethod
    def lay_out(self) -> None:
        """Make the parts, untrained: what the architecture and the counts of a network ask for."""

    @property
    def seen_by_encoders(self) -> tuple[int, ...]:
        """Categories of each covariate that the encoders see."""
        return self.n_categories if self.architecture.encode_covariates else ()

    @property
    def n_continuous_encoded(self) -> int:
        """Continuous covariates that the encoders see."""
        return self.n_continuous if self.architecture.encode_covariates else 0

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """The untrained network that a manifest describes."""
        covariates = (manifest.batch, *manifest.extra_covariates)
        return cls(
            manifest.architecture,
            n_categories=[len(covariate.categories) for covariate in covariates],
            n_continuous=len(manifest.continuous_covariates),
            n_labels=len(manifest.labels[0].categories) if manifest.labels else 1,
        )

    def minibatch(self, cells: Cells, rows: Rows) -> Cells:
        """Some of the cells, with their counts as `project` and the losses take them.

        Dense, however these are kept, unless a kind can do without.
        """
        return select_dense(cells, rows)

    @abstractmethod
    def project(self, cells: Cells, log_x: Float[Tensor, "c g"] | None = None) -> Projection:
        """All that the encoders take from the counts.

        `log_x`: log(1 + x), where it is known and the network looks at it.
        """

    @abstractmethod
    def posterior(self, projection: Projection, codes: Codes) -> Posterior:
        """q(z | x, s)."""

    @abstractmethod
    def expected_shares(self, z: Float[Tensor, "c z"], codes: Codes) -> Float[Tensor, "c g"]:
        """Each feature's share of what the decoder expects of a cell at z; rows sum to 1.

        Continuous covariates are 0.
        """

    @abstractmethod
    def loss_terms(
        self, cells: Cells, noise: Noise, projection: Projection | None = None
    ) -> LossTerms:
        """Every term of the loss with given noise, in full (training uses the slope alone)."""

    @abstractmethod
    def training_loss(
        self,
        cells: Cells,
        noise: Noise,
        kl_weight: float,
        *,
        projection: Projection | None = None,
        labelled: Cells | None = None,
    ) -> Float[Tensor, ""]:
        """A scalar whose gradient is that of the loss; its value may leave out constants.

        Args:
            cells: a minibatch.
            noise: as `draw_noise` gives it.
            kl_weight: weight of the KL divergence of z.
            projection: the cells' own, where it is known.
            labelled: cells that a classifier learns from, beside the minibatch; None: those of
                the minibatch whose label is known.
        """

    @abstractmethod
    def decoded(
        self, output: OutputName, z: Float[Tensor, "c z"], cells: Cells
    ) -> Float[Tensor, "c f"]:
        """One of the `outputs` at z, for all features of its kind.

        Args:
            output: see `models_store.outputs`.
            z: as `sample` draws it.
            cells: codes and covariates; counts are not looked at.
        """

    @property
    def library_is_latent(self) -> bool:
        """Whether `library_prior` is looked at, so that a mapping keeps its batches' own."""
        return False

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.library_prior.device

    def no_continuous(self, n_cells: int) -> Float[Tensor, "c n"] | None:
        """Zeros for every continuous covariate of so many cells; None where there are none."""
        n = self.n_continuous
        return self.library_prior.new_zeros(n_cells, n) if n else None

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

    def draw_noise(self, n_cells: int, generator: torch.Generator) -> Noise:
        """Standard normal draws, from a CPU generator so that a seed means the same everywhere."""
        z = torch.randn(n_cells, self.architecture.n_latent, generator=generator)
        return Noise(z.to(self.device))

    def conditional_layers(self) -> Iterator[tuple[str, ConditionalLinear]]:
        """The layers that see the covariates, by their path in the network, in a stable order."""
        for name, module in self.named_modules():
            if isinstance(module, ConditionalLinear) and name.split(".")[0] in self.see_covariates:
                yield name, module

    def category_rows(self) -> dict[str, CategoryRows]:
        """Every table of covariates' rows by its path in the network."""
        return {
            f"{name}.covariates.{i}": rows
            for name, layer in self.conditional_layers()
            for i, rows in enumerate(layer.covariate_rows())
        }

    def batch_tables(self) -> Iterator[Dispersion]:
        """Tables outside of layers with a row for each batch: new batches start at the mean row."""
        yield from ()
