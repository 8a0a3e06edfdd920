"""Blocks of rows on their way to canonical form: sorted, merged, without stored zeros."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from worker.intake.findings import located
from worker.intake.values import Array

ENTRIES = 2**20
"""Entries handled at once: what a check holds of a matrix, whatever its size."""


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows as CSR; `indptr` starts at 0."""

    first: int
    indptr: Array
    indices: Array
    values: Array

    def __len__(self) -> int:
        return len(self.indptr) - 1


def ranges(indptr: Array, entries: int) -> Iterator[tuple[int, int]]:
    """Consecutive rows (or columns) that hold at most `entries`, at least one at a time."""
    start, last = 0, len(indptr) - 1
    while start < last:
        stop = int(np.searchsorted(indptr, indptr[start] + entries, side="right")) - 1
        stop = min(max(stop, start + 1), last)
        yield start, stop
        start = stop


def check_indices(indices: Array, n_minor: int, pointer: str) -> Array:
    """Indices as int32, proved to lie within the matrix."""
    if indices.dtype.kind not in "iu":
        raise located(
            "indices-not-integers", pointer, f"{pointer} holds {indices.dtype}, not integers."
        )
    if len(indices) and (int(indices.min()) < 0 or int(indices.max()) >= n_minor):
        worst = int(indices.max()) if int(indices.min()) >= 0 else int(indices.min())
        raise located(
            "index-out-of-range",
            pointer,
            f"{pointer} holds {worst}, outside the {n_minor:,} positions.",
        )
    return indices.astype(np.int32, copy=False)


def select(block: RowBlock, places: Array) -> RowBlock:
    """The same rows with each gene moved to its place; those whose place is -1 are left out."""
    moved = places[block.indices]
    kept = moved >= 0
    if kept.all():
        return RowBlock(block.first, block.indptr, moved, block.values)
    before = np.concatenate([[0], np.cumsum(kept)])
    return RowBlock(block.first, before[block.indptr], moved[kept], block.values[kept])


def canonical(block: RowBlock, n_genes: int) -> RowBlock:
    """The same rows with sorted, distinct gene positions and no stored zeros, as float32."""
    block = merged(block, n_genes)
    with np.errstate(over="ignore"):  # what has become infinite is refused by who asked
        values = block.values.astype(np.float32)
    return RowBlock(block.first, block.indptr, block.indices, values)


def merged(block: RowBlock, n_genes: int) -> RowBlock:
    """The same rows with sorted, distinct gene positions and no stored zeros."""
    if not _is_sorted(block):
        shape = (len(block), n_genes)
        # Sorting moves them where they lie, and the caller's block must stay as it is.
        indices = block.indices.copy()
        rows = csr_matrix((block.values.astype(float), indices, block.indptr), shape=shape)
        rows.sort_indices()
        rows.sum_duplicates()
        block = RowBlock(block.first, rows.indptr, rows.indices, rows.data)
    kept = block.values != 0
    if not kept.all():
        before = np.concatenate([[0], np.cumsum(kept)])
        block = RowBlock(block.first, before[block.indptr], block.indices[kept], block.values[kept])
    return block


def chosen_rows(block: RowBlock, rows: Array) -> RowBlock:
    """Some rows of a block, ascending, as a block of their own."""
    number = np.diff(block.indptr)[rows]
    entries = np.repeat(block.indptr[rows] - np.cumsum(number) + number, number)
    entries = entries + np.arange(len(entries))
    indptr = np.concatenate([[0], np.cumsum(number)])
    return RowBlock(block.first, indptr, block.indices[entries], block.values[entries])


def _is_sorted(block: RowBlock) -> bool:
    rising = np.ones(len(block.indices) + 1, dtype=bool)
    rising[1:-1] = block.indices[1:] > block.indices[:-1]
    rising[block.indptr] = True  # a row's first entry follows nothing
    return bool(rising.all())
