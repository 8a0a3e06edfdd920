"""Cells as a network sees them, and what its encoders make of them."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models_store import sparse_counts
from models_store.count_rows import CountRows
from models_store.layers import Code, Codes

Rows = Int[Tensor, " n"] | slice
"""Which cells: in that order and copied, or a range of them, seen in place."""


def take(values: Tensor, rows: Rows) -> Tensor:
    """The values of some cells, kept as they were."""
    if sparse_counts.is_sparse(values):
        return sparse_counts.take_rows(values, rows)
    # Copies whole rows; plain indexing is 3 times slower.
    return values[rows] if isinstance(rows, slice) else values.index_select(0, rows)


@dataclass(frozen=True)
class Cells:
    """A minibatch, or any set of cells, aligned to the gene panel."""

    x: Float[Tensor, "c g"]
    """Dense, or a CSR tensor of cells that are kept (`sparse_counts`): see `CVAE.minibatch`."""
    codes: Codes
    """For the batch and then each extra covariate, the category of every cell."""
    continuous: Float[Tensor, "c n"] | None = None
    labels: Int[Tensor, " c"] | None = None
    """Label codes, for gene-label dispersion and for SCANVI; the number of labels stands for
    `unknown`."""
    size_factor: Float[Tensor, "c ..."] | None = None
    """MULTIVI with depths that are given: the size factor and the depth, (c, 2)."""
    measured: Bool[Tensor, "c p"] | None = None
    """Which proteins a cell was measured for (see `protein_panels`); None: all of them."""
    panel: Code | None = None
    """The panel of proteins of a cell, where a reference's backgrounds are by panel."""


@dataclass(frozen=True)
class Projection:
    """All that the encoders take from a cell's counts: constant while the reference is frozen."""

    z: Float[Tensor, "c h"]
    """First layer of the encoder, or of several, side by side."""
    library: Float[Tensor, "c h"] | None
    """First layer of the library encoder, when the library is latent."""
    log_library: Float[Tensor, "c n"]
    """Observed log library or log size factor; zeros when the library is latent. MULTIVI: 1 or 0
    for each modality that a cell may have, then what is given of its sizes."""

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

    def surprise(self, at: Float[Tensor, "c n"]) -> Float[Tensor, " c"]:
        """-log N(at; m, v), summed over dimensions."""
        return 0.5 * ((at - self.m) ** 2 / self.v + (2 * math.pi * self.v).log()).sum(-1)

    def kl_standard(self) -> Float[Tensor, " c"]:
        """KL(N(m, v) || N(0, I)) = ½ Σ (v + m² - 1 - log v)."""
        return 0.5 * (self.v + self.m**2 - 1 - self.v.log()).sum(-1)

    def kl(self, mean: Float[Tensor, "c n"], variance: Float[Tensor, "c n"]) -> Float[Tensor, " c"]:
        """KL(N(m, v) || N(mean, variance))."""
        ratio = self.v / variance
        return 0.5 * (ratio + (self.m - mean) ** 2 / variance - 1 - ratio.log()).sum(-1)


@dataclass(frozen=True)
class Noise:
    """Standard normal draws for the reparameterised z and, where a network has them, the latent
    library, for each label the z2 of SCANVI, and the background of each protein."""

    z: Float[Tensor, "c z"]
    library: Float[Tensor, "c 1"] | None = None
    z2: Float[Tensor, "k c z"] | None = None
    background: Float[Tensor, "c p"] | None = None

    def rows(self, rows: Rows) -> "Noise":
        """The draws of some of the cells."""
        library = None if self.library is None else take(self.library, rows)
        z2 = None if self.z2 is None else self.z2[:, rows]
        background = None if self.background is None else take(self.background, rows)
        return Noise(take(self.z, rows), library, z2, background)


def without_counts(cells: Cells) -> Cells:
    """All else there is to these cells."""
    return replace(
        cells, x=torch.empty(len(cells.x), 0, dtype=cells.x.dtype, device=cells.x.device)
    )


def with_dense_counts(cells: Cells) -> Cells:
    """The same cells, whose counts have every zero."""
    return replace(cells, x=sparse_counts.dense(cells.x))


def take_dense(x: Float[Tensor, "c g"], rows: Rows) -> Float[Tensor, "n g"]:
    """The counts of some cells with every zero, however they are kept."""
    if not sparse_counts.is_sparse(x):
        return take(x, rows)
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return sparse_counts.dense(sparse_counts.take_rows(x, rows))
    # Not by way of the chosen rows as a CSR tensor, which takes several times as long.
    return CountRows.of(x).rows(rows).dense(x.shape[1])


def select_dense(cells: Cells, rows: Rows) -> Cells:
    """Some of the cells, whose counts have every zero."""
    chosen = select_cells(without_counts(cells), rows)
    return replace(chosen, x=take_dense(cells.x, rows))


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
        measured=each(cells.measured),
        panel=take(cells.panel, rows) if isinstance(cells.panel, Tensor) else cells.panel,
    )
