"""The matrix on its way out: canonical rows to the sink, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from worker.intake.dense import dense_blocks
from worker.intake.findings import Findings
from worker.intake.frames import Sink
from worker.intake.matrices import Matrix
from worker.intake.rows import RowBlock, canonical
from worker.intake.source import Source
from worker.intake.sparse import csc_blocks, csr_blocks
from worker.intake.values import Survey, largest_value

NEARLY_EMPTY, NEARLY_EMPTY_SHARE = 50, 0.05
"""A cell is nearly empty with fewer counts than this, and than this share of the median."""
READERS = {"csr": csr_blocks, "csc": csc_blocks, "dense": dense_blocks}


def raw_blocks(source: Source, matrix: Matrix, survey: Survey) -> Iterator[RowBlock]:
    """The rows of a matrix in any layout, in order; the survey tells what is wrong with values."""
    return READERS[matrix.layout](source, matrix, survey)


class Totals:
    """What the canonical matrix adds up to, gathered block by block."""

    def __init__(self, n_cells: int) -> None:
        self.entries = np.zeros(n_cells, dtype=np.int64)
        self.sums = np.zeros(n_cells, dtype=np.float64)
        self.smallest = np.inf
        self.largest = 0.0

    def add(self, block: RowBlock) -> None:
        rows = slice(block.first, block.first + len(block))
        self.entries[rows] = np.diff(block.indptr)
        if not len(block.values):
            return
        occupied = np.flatnonzero(self.entries[rows])
        starts = block.indptr[occupied]
        self.sums[block.first + occupied] = np.add.reduceat(block.values.astype(float), starts)
        self.smallest = min(self.smallest, float(block.values.min()))
        self.largest = max(self.largest, float(block.values.max()))

    @property
    def nnz(self) -> int:
        return int(self.entries.sum())

    def nearly_empty(self) -> int:
        """Cells that have counts, but next to none beside what cells of this query have."""
        bound = min(NEARLY_EMPTY, float(np.median(self.sums)) * NEARLY_EMPTY_SHARE)
        return int(((self.sums > 0) & (self.sums < bound)).sum())

    def as_dict(self) -> dict[str, Any]:
        return {
            "min": 0.0 if np.isinf(self.smallest) else self.smallest,
            "max": self.largest,
            "total": float(self.sums.sum()),
            "median_per_cell": float(np.median(self.sums)),
            "median_genes_per_cell": float(np.median(self.entries)),
            "empty_cells": int((self.entries == 0).sum()),
        }


def write_counts(
    blocks: Iterable[RowBlock], shape: tuple[int, int], sink: Sink, survey: Survey
) -> Totals:
    """Stream the canonical CSR arrays to the sink.

    Of a matrix with faults every block is still looked at, so that all of them can be told; what
    has been written by then is worth nothing.
    """
    n_cells, n_genes = shape
    totals = Totals(n_cells)
    for raw in blocks:
        if not survey.is_clean:
            continue
        block = with_sums(raw, n_genes, survey)
        if not survey.is_clean:
            continue
        totals.add(block)
        sink.write("indices.npy", block.indices.astype("<i4", copy=False))
        sink.write("data.npy", block.values.astype("<f4", copy=False))
        sink.progress((block.first + len(block)) / n_cells)
    sink.write("indptr.npy", np.concatenate([[0], np.cumsum(totals.entries)]).astype("<i8"))
    return totals


def with_sums(raw: RowBlock, n_genes: int, survey: Survey) -> RowBlock:
    """The canonical rows; the survey is told of a sum that is too large."""
    block = canonical(raw, n_genes)
    if len(block.values) and block.values.max() > largest_value(whole=survey.whole):
        at = int(block.values.argmax())
        row = block.first + int(np.searchsorted(block.indptr, at, side="right")) - 1
        survey.note_sum(row, int(block.indices[at]), float(block.values[at]))
    return block


def warn_about_counts(totals: Totals, findings: Findings) -> None:
    empty = int((totals.entries == 0).sum())
    if empty:
        findings.tell(
            "empty-cells",
            "/obs",
            f"{empty:,} cells have no counts at all; they are kept, but their place means nothing.",
            "Remove empty cells (scanpy.pp.filter_cells) if you did not mean to keep them.",
        )
    few = totals.nearly_empty()
    if few:
        findings.tell(
            "nearly-empty-cells",
            "/obs",
            f"{few:,} cells have hardly any counts (fewer than {NEARLY_EMPTY}, where a cell has "
            f"{float(np.median(totals.sums)):,.0f} in the median); they are kept, but so few say "
            "little about their place.",
            "Remove such cells (scanpy.pp.filter_cells) if you did not mean to keep them.",
        )
