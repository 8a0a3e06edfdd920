"""The reference's cells as blocks of latents: encoded from their counts, or as they were stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from models_store.bundle import with_large_query_weights
from models_store.cells import Cells
from models_store.cvae import CVAE
from models_store.encoding import encode, project_block
from worker.alignment import AlignedCounts
from worker.imports.cells import LATENT, VARIANCE

Float32 = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]

STORED_BLOCK = 65_536


@dataclass(frozen=True)
class LatentBlock:
    """Cells `start` to `stop` of the file, in its order."""

    start: int
    stop: int
    mean: Float32
    variance: Float32 | None


class CellSource(Protocol):
    """Where latents come from."""

    def blocks(self) -> Iterator[LatentBlock]: ...


@dataclass
class EncodedCells:
    """Latents by the very path that a mapping takes, and what the pass over the counts shows."""

    cvae: CVAE
    counts: AlignedCounts
    codes: Sequence[Codes]
    continuous: Float32 | None
    reproduced: bool = True
    """Every cell came out bit for bit when encoded again with absurdly large query weights."""
    empty: int = 0
    expression: npt.NDArray[np.float64] = field(init=False)
    """Sum over cells of each gene's share of the cell's counts."""

    def __post_init__(self) -> None:
        self.expression = np.zeros(self.counts.n_genes)
        self._grafted = with_large_query_weights(self.cvae)

    def blocks(self) -> Iterator[LatentBlock]:
        for start, stop, rows in self.counts.blocks(0, self.counts.n_cells):
            self._add_expression(rows)
            codes = tuple(torch.from_numpy(code[start:stop]) for code in self.codes)
            cells = self._cells(rows.toarray(), slice(start, stop), codes)
            projection = project_block(self.cvae, cells)
            found = encode(self.cvae, projection, codes)
            again = encode(self._grafted, projection, codes)
            self.reproduced &= torch.equal(found.mean, again.mean)
            self.reproduced &= torch.equal(found.variance, again.variance)
            yield LatentBlock(start, stop, found.mean.numpy(), found.variance.numpy())

    def _cells(self, x: Float32, rows: slice, codes: tuple[torch.Tensor, ...]) -> Cells:
        continuous = None if self.continuous is None else torch.from_numpy(self.continuous[rows])
        # No latent depends on the size factor: it only scales what is decoded.
        return Cells(torch.from_numpy(x), codes, continuous, None, torch.ones(len(x)))

    def _add_expression(self, rows: Any) -> None:
        totals = np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()
        weights = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)
        self.expression += np.asarray(rows.T @ weights).ravel()
        self.empty += int((totals == 0).sum())


@dataclass(frozen=True)
class StoredLatents:
    """Latents that the file held, which stay on disk."""

    mean: Float32
    variance: Float32 | None

    @classmethod
    def open(cls, folder: Path, n_cells: int, n_latent: int, *, variance: bool) -> StoredLatents:
        def stored(name: str) -> Float32:
            return np.memmap(folder / name, dtype="<f4", mode="r", shape=(n_cells, n_latent))

        return cls(stored(LATENT), stored(VARIANCE) if variance else None)

    def blocks(self) -> Iterator[LatentBlock]:
        for start in range(0, len(self.mean), STORED_BLOCK):
            rows = slice(start, start + STORED_BLOCK)
            variance = None if self.variance is None else np.asarray(self.variance[rows])
            mean = np.asarray(self.mean[rows])
            yield LatentBlock(start, start + len(mean), mean, variance)

    def sample(self, size: int, seed: int = 0) -> tuple[torch.Tensor, Codes]:
        """Latents of some cells at random, and which cells they are, in order."""
        n = len(self.mean)
        chosen = np.sort(np.random.default_rng(seed).choice(n, min(size, n), replace=False))
        return torch.from_numpy(np.array(self.mean[chosen])), chosen
