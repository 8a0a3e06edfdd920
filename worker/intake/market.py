"""A matrix in Matrix Market form with its tables of features and barcodes, as Cell Ranger writes.

The text is read as a stream, twice or more: first to count the entries of each cell, then to fill
rows. Where the entries come cell by cell, as Cell Ranger writes them, rows are passed on as they
are read; in any other order as many rows as fit are filled in one pass, and again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from app.problems import Problem
from worker.intake.feature_tables import feature_table
from worker.intake.findings import Findings, located
from worker.intake.limits import Limits
from worker.intake.market_text import AS_WRITTEN, Entries, read_columns, read_entries, read_size
from worker.intake.matrices import Matrix
from worker.intake.one_matrix import ONLY_MATRIX, OneMatrix, only_matrix
from worker.intake.rows import ENTRIES, RowBlock, ranges
from worker.intake.tables import Table
from worker.intake.triples import Triple
from worker.intake.values import Array, Survey


class MarketMatrix(OneMatrix):
    """See `QueryFile`."""

    format = "10x-mtx"

    def __init__(self, triple: Triple, limits: Limits) -> None:
        self.triple, self.limits = triple, limits
        self._features: list[pa.Array] | None = None
        self._barcodes: pa.Array | None = None

    def peek(self, matrix: Matrix, number: int) -> Array:
        first = next(read_entries(self.triple.matrix), None)
        return np.empty(0) if first is None else first.values[:number]

    def locate(self, layer: str | None) -> Matrix:
        pointer = self.triple.matrix.pointer
        only_matrix(layer, pointer)
        size = read_size(self.triple.matrix)
        shape = (size.rows, size.columns) if self._is_turned() else (size.columns, size.rows)
        # Neither compressed nor dense; only its reader here knows how it is stored.
        return Matrix(ONLY_MATRIX, pointer, self.triple.features.pointer, "dense", shape)

    def _is_turned(self) -> bool:
        """Whether cells are rows, by the only sign there is: the lengths of the tables."""
        size = read_size(self.triple.matrix)
        try:
            n_genes, n_cells = len(self._feature_columns()[0]), len(self._cell_names())
        except Problem:
            return False  # told where the tables are read
        stored = (size.rows, size.columns)
        return stored != (n_genes, n_cells) and stored == (n_cells, n_genes)

    def cells(self, findings: Findings) -> Table:
        return Table("/obs", self._cell_names(), None)

    def genes(self, matrix: Matrix | None, findings: Findings) -> Table:
        columns = self._feature_columns()
        if self._is_turned():
            findings.tell(
                "matrix-turned",
                self.triple.matrix.pointer,
                "The matrix has a row for each cell, where Cell Ranger has one for each gene; it "
                "was turned.",
                "Nothing needs doing.",
            )
        return feature_table(
            self.triple.features.pointer,
            columns[0],
            names=columns[1] if len(columns) > 1 else None,
            types=columns[2] if len(columns) > 2 else None,
            genomes=None,
        )

    def blocks(self, matrix: Matrix, survey: Survey) -> Iterator[RowBlock]:
        stream = _CellEntries(self.triple, matrix, turned=self._is_turned())
        starts, is_sorted = stream.count()
        if is_sorted:
            yield from stream.rows_in_order(starts, survey)
            return
        for first, last in ranges(starts, self.limits.transpose_entries):
            # Every pass reads all entries; the first one proves their values.
            yield from stream.fill(starts, first, last, survey if first == 0 else None)

    def examine(self, matrix: Matrix, survey: Survey, findings: Findings) -> None:
        survey.faults.clear()
        try:
            for entries in read_entries(self.triple.matrix):
                survey.look(entries.values, None)
        except Problem as problem:
            findings.take(problem)

    def dropped(self, matrix: Matrix) -> dict[str, list[str]]:
        return {"files": self.triple.others} if self.triple.others else {}

    def _cell_names(self) -> pa.Array:
        if self._barcodes is None:
            self._barcodes = read_columns(self.triple.barcodes, self.limits)[0]
        return self._barcodes

    def _feature_columns(self) -> list[pa.Array]:
        if self._features is None:
            self._features = read_columns(self.triple.features, self.limits)
        return self._features


@dataclass(frozen=True)
class _CellEntries:
    """Entries as cell, gene and value."""

    triple: Triple
    matrix: Matrix
    turned: bool

    def read(self) -> Iterator[tuple[Array, Array, Array]]:
        """Blocks of cells, genes and values, proved to lie in the matrix."""
        n_cells, n_genes = self.matrix.shape
        for entries in read_entries(self.triple.matrix):
            cells, genes = self._sides(entries)
            _check_inside(cells, n_cells, self.matrix.path, "cell")
            _check_inside(genes, n_genes, self.matrix.path, "gene")
            yield cells, genes.astype(np.int32), entries.values

    def _sides(self, entries: Entries) -> tuple[Array, Array]:
        if self.turned:
            return entries.rows, entries.columns
        return entries.columns, entries.rows

    def count(self) -> tuple[Array, bool]:
        """Where each cell's entries would start in a list by cells, and whether this is one."""
        n_cells = self.matrix.shape[0]
        counts = np.zeros(n_cells, dtype=np.int64)
        last, is_sorted = 0, True
        for cells, _, _ in self.read():
            if not len(cells):
                continue
            low, high = int(cells.min()), int(cells.max())
            counts[low : high + 1] += np.bincount(cells - low, minlength=high - low + 1)
            is_sorted = is_sorted and int(cells[0]) >= last and bool((np.diff(cells) >= 0).all())
            last = int(cells[-1])
        return np.concatenate([[0], np.cumsum(counts)]), is_sorted

    def rows_in_order(self, starts: Array, survey: Survey) -> Iterator[RowBlock]:
        n_cells, row = self.matrix.shape[0], 0
        waiting_genes, waiting_values = np.empty(0, np.int32), np.empty(0)
        for cells, genes, values in self.read():
            survey.look(values, lambda at, c=cells, g=genes: (int(c[at]), int(g[at])))  # type: ignore[misc]
            waiting_genes = np.concatenate([waiting_genes, genes])
            waiting_values = np.concatenate([waiting_values, values])
            read = int(starts[row]) + len(waiting_genes)
            whole = int(np.searchsorted(starts, read, side="right")) - 1
            done = int(starts[whole] - starts[row])
            indptr = starts[row : whole + 1] - starts[row]
            if whole > row:
                yield RowBlock(row, indptr, waiting_genes[:done], waiting_values[:done])
            waiting_genes, waiting_values = waiting_genes[done:], waiting_values[done:]
            row = whole
        if row < n_cells:
            indptr = starts[row:] - starts[row]
            yield RowBlock(row, indptr, waiting_genes, waiting_values)

    def fill(
        self, starts: Array, first: int, last: int, survey: Survey | None
    ) -> Iterator[RowBlock]:
        """The rows `first` to `last`, from entries in any order."""
        indptr = starts[first : last + 1] - starts[first]
        free = indptr[:-1].copy()  # where each row's next entry goes
        indices = np.empty(indptr[-1], dtype=np.int32)
        data = np.empty(indptr[-1], dtype=np.float32)
        for cells, genes, values in self.read():
            if survey is not None:
                survey.look(values, lambda at, c=cells, g=genes: (int(c[at]), int(g[at])))  # type: ignore[misc]
            mine = (cells >= first) & (cells < last)
            rows, counts, places = _places(cells[mine] - first, free)
            indices[places] = genes[mine][rows]
            with np.errstate(over="ignore", invalid="ignore"):  # what the survey has told
                data[places] = values[mine][rows].astype(np.float32)
            free += counts
        for start, stop in ranges(indptr, ENTRIES):
            begin, end = indptr[start], indptr[stop]
            yield RowBlock(
                first + start, indptr[start : stop + 1] - begin, indices[begin:end], data[begin:end]
            )


def _places(rows: Array, free: Array) -> tuple[Array, Array, Array]:
    """The order of entries by row, how many each row has, and where each of them goes."""
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=len(free))
    before = np.cumsum(counts) - counts
    places = np.repeat(free - before, counts) + np.arange(len(rows))
    return order, counts, places


def _check_inside(positions: Array, number: int, pointer: str, what: str) -> None:
    if len(positions) and (int(positions.min()) < 0 or int(positions.max()) >= number):
        low, high = int(positions.min()) + 1, int(positions.max()) + 1
        raise located(
            "index-out-of-range",
            pointer,
            f"The matrix has an entry of {what} {low if low < 1 else high:,}, and {what}s from 1 "
            f"to {number:,}.",
            AS_WRITTEN,
        )
