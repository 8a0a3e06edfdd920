"""The counts of a query in the order of a reference's genes, and who each cell is by content."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from models_store.blocks import block_ranges
from models_store.gene_matching import GeneMatch

Float32 = npt.NDArray[np.float32]
UInt64 = npt.NDArray[np.uint64]
Index = npt.NDArray[np.int64]


class CountRows(Protocol):
    """The part of a canonical query that alignment reads."""

    @property
    def n_cells(self) -> int: ...

    def rows(self, start: int, stop: int) -> sp.csr_matrix: ...
    def rows_of(self, cells: Index) -> sp.csr_matrix: ...


@dataclass(frozen=True)
class _Rows:
    """Rows that are in memory."""

    counts: sp.csr_matrix

    @property
    def n_cells(self) -> int:
        return int(self.counts.shape[0])

    def rows(self, start: int, stop: int) -> sp.csr_matrix:
        return self.counts[start:stop]

    def rows_of(self, cells: Index) -> sp.csr_matrix:
        return self.counts[cells]


class AlignedCounts:
    """Rows of a canonical query with the reference's panel as columns; absent features are zero.

    Features of the query that meet the same one of the panel are summed.
    """

    def __init__(self, counts: CountRows, match: GeneMatch) -> None:
        self._set(counts, match.positions, match.width)

    @classmethod
    def of_panel(cls, rows: sp.csr_matrix) -> Self:
        """Rows in memory whose columns are the reference's genes already."""
        found, n_genes = cls.__new__(cls), int(rows.shape[1])
        found._set(_Rows(rows), range(n_genes), n_genes)
        return found

    def _set(self, counts: CountRows, positions: Sequence[int], n_genes: int) -> None:
        self.n_cells = counts.n_cells
        self.n_genes = n_genes
        self._counts = counts
        self._positions = np.asarray(positions, dtype=np.int32)

    def sparse(self, start: int, stop: int) -> sp.csr_matrix:
        """Cells start to stop, (cells, genes of the panel), float32."""
        return self._align(self._counts.rows(start, stop))

    def _align(self, rows: sp.csr_matrix) -> sp.csr_matrix:
        columns = self._positions[rows.indices]
        kept = columns >= 0
        arrays = (rows.data, columns, rows.indptr)
        if not kept.all():
            before = np.concatenate([[0], np.cumsum(kept)])
            arrays = (rows.data[kept], columns[kept], before[rows.indptr])
        aligned = sp.csr_matrix(arrays, shape=(rows.shape[0], self.n_genes))
        aligned.sum_duplicates()
        return aligned

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, int, sp.csr_matrix]]:
        """These cells once, in blocks; `start` is a multiple of a block."""
        for first, last in block_ranges(stop, start):
            yield first, last, self.sparse(first, last)

    def chosen(self, cells: Index) -> sp.csr_matrix:
        """Chosen cells, ascending, (cells, genes of the panel); no others are read."""
        blocks = block_ranges(len(cells))
        parts = [self._align(self._counts.rows_of(cells[at:upto])) for at, upto in blocks]
        none = sp.csr_matrix((0, self.n_genes), dtype=np.float32)
        return sp.vstack([none, *parts], format="csr")

    def in_order(self, cells: Index) -> sp.csr_matrix:
        """Chosen cells in the given order, (cells, genes of the panel); no others are read."""
        order = np.argsort(cells, kind="stable")
        return self.chosen(cells[order])[np.argsort(order)]


def row_hashes(rows: sp.csr_matrix) -> UInt64:
    """128 bits for each row that depend on its non-zero counts alone, (rows, 2).

    A sum over non-zeros of a mixed (column, value) pair: equal for equal rows whatever query they
    stand in. It orders cells and seeds fits; it protects nothing, so it need not resist malice.
    """
    pair = rows.indices.astype(np.uint64)
    pair <<= np.uint64(32)
    pair ^= rows.data.astype(np.float32, copy=False).view(np.uint32)
    hashes = np.zeros((rows.shape[0], 2), dtype=np.uint64)
    occupied = np.flatnonzero(np.diff(rows.indptr))
    if len(occupied):
        for half, salt in enumerate((0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)):
            mixed = _mix(pair + np.uint64(salt))
            hashes[occupied, half] = np.add.reduceat(mixed, rows.indptr[occupied])
    return hashes


def fold_hashes(hashes: UInt64, columns: list[UInt64]) -> UInt64:
    """Row hashes with further columns of numbers mixed in (codes, covariates)."""
    folded = hashes
    for column in columns:
        folded = _mix(folded * np.uint64(0xD6E8FEB86659FD93) + column[:, None])
    return folded


def _mix(values: UInt64) -> UInt64:
    """The finaliser of splitmix64 (Steele et al. 2014), in place: each input bit reaches each
    output bit."""
    shifted = values >> np.uint64(30)
    values ^= shifted
    values *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(values, np.uint64(27), out=shifted)
    values ^= shifted
    values *= np.uint64(0x94D049BB133111EB)
    np.right_shift(values, np.uint64(31), out=shifted)
    values ^= shifted
    return values
