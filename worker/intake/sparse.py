"""Sparse matrices proved and read in blocks of rows; CSC is turned with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import h5py
import numpy as np
from scipy.sparse import csc_matrix

from worker.intake.findings import Findings, located, reading
from worker.intake.matrices import Matrix
from worker.intake.rows import ENTRIES, RowBlock, check_indices, ranges
from worker.intake.source import Source, blocks
from worker.intake.values import Array, Place, Survey, check_number_type


@dataclass(frozen=True)
class Compressed:
    """The three arrays of a compressed matrix; `indptr` is proved, the others are not yet."""

    path: str
    indptr: Array
    indices: h5py.Dataset
    data: h5py.Dataset
    n_minor: int

    def read_indices(self, start: int, stop: int) -> Array:
        pointer = f"{self.path}/indices"
        with reading(pointer):
            return check_indices(self.indices[start:stop], self.n_minor, pointer)

    def read_data(self, start: int, stop: int) -> Array:
        with reading(f"{self.path}/data"):
            values: Array = self.data[start:stop]
            return values.view(np.uint8) if values.dtype.kind == "b" else values


def open_compressed(source: Source, matrix: Matrix) -> Compressed:
    """Prove the lengths and the pointers of a CSR or CSC matrix."""
    n_major, n_minor = _sizes(matrix)
    data = _entries(source, f"{matrix.path}/data")
    indices = _entries(source, f"{matrix.path}/indices")
    check_number_type(data.dtype, f"{matrix.path}/data")
    _check_lengths(matrix, data, indices)
    indptr = _prove_indptr(source, f"{matrix.path}/indptr", n_major, int(data.size))
    return Compressed(matrix.path, indptr, indices, data, n_minor)


def first_values(source: Source, matrix: Matrix, number: int) -> Array:
    """The first stored values of a compressed matrix; its pointers are not proved by this."""
    pointer = f"{matrix.path}/data"
    data = _entries(source, pointer)
    check_number_type(data.dtype, pointer)
    with reading(pointer):
        values: Array = data[:number]
    return values.view(np.uint8) if values.dtype.kind == "b" else values


def _sizes(matrix: Matrix) -> tuple[int, int]:
    return matrix.shape if matrix.layout == "csr" else matrix.shape[::-1]


def _check_lengths(matrix: Matrix, data: h5py.Dataset, indices: h5py.Dataset) -> None:
    if data.shape != indices.shape:
        raise located(
            "entries-differ",
            f"{matrix.path}/indices",
            f"{matrix.path} has {data.size:,} values but {indices.size:,} indices.",
        )


def examine_compressed(source: Source, matrix: Matrix, survey: Survey, findings: Findings) -> None:
    """All that is wrong with the three arrays of a damaged matrix, each read on its own."""
    n_major, n_minor = _sizes(matrix)
    arrays: dict[str, h5py.Dataset] = {}
    for name in ("data", "indices"):
        with findings.collecting():
            arrays[name] = _entries(source, f"{matrix.path}/{name}")
    if len(arrays) == 2:
        with findings.collecting():
            _check_lengths(matrix, arrays["data"], arrays["indices"])
    with findings.collecting():
        _prove_indptr(source, f"{matrix.path}/indptr", n_major, _stored(arrays))
    if "indices" in arrays:
        with findings.collecting():
            _look_at_indices(f"{matrix.path}/indices", arrays["indices"], n_minor)
    if "data" in arrays:
        with findings.collecting():
            _look_at_values(f"{matrix.path}/data", arrays["data"], survey)


def _stored(arrays: dict[str, h5py.Dataset]) -> int | None:
    """How many entries there are, where the arrays agree on it."""
    sizes = {int(array.size) for array in arrays.values()}
    return sizes.pop() if len(sizes) == 1 else None


def _look_at_indices(pointer: str, indices: h5py.Dataset, n_minor: int) -> None:
    for start, stop in blocks(int(indices.size), ENTRIES):
        with reading(pointer):
            check_indices(indices[start:stop], n_minor, pointer)


def _look_at_values(pointer: str, data: h5py.Dataset, survey: Survey) -> None:
    check_number_type(data.dtype, pointer)
    survey.faults.clear()  # what was met before the structure failed is met again
    for start, stop in blocks(int(data.size), ENTRIES):
        with reading(pointer):
            survey.look(data[start:stop], None)


def _entries(source: Source, path: str) -> h5py.Dataset:
    dataset = source.dataset(path)
    if dataset.ndim != 1:
        raise located("wrong-dimensions", path, f"{path} has {dataset.ndim} dimensions, not one.")
    return dataset


def _prove_indptr(source: Source, path: str, n_major: int, n_entries: int | None) -> Array:
    dataset = source.vector(path, n_major + 1)
    if dataset.dtype.kind not in "iu":
        raise located("pointers-not-integers", path, f"{path} holds {dataset.dtype}, not integers.")
    with reading(path):
        indptr: Array = dataset[...].astype(np.int64)
    _judge_pointers(path, indptr, n_entries)
    return indptr


def _judge_pointers(path: str, indptr: Array, n_entries: int | None) -> None:
    faults = Findings()
    if indptr[0] != 0:
        faults.tell("pointers-begin-late", path, f"{path} begins at {indptr[0]}, not at 0.")
    # Compared, not subtracted: a difference of 2^63 wraps around and would pass for a rise.
    if (falls := indptr[1:] < indptr[:-1]).any():
        faults.tell("pointers-fall", path, f"{path} falls after entry {int(falls.argmax())}.")
    if n_entries is not None and indptr[-1] != n_entries:
        faults.tell(
            "pointers-end", path, f"{path} ends at {indptr[-1]:,}, but {n_entries:,} are stored."
        )
    if (problem := faults.problem()) is not None:
        raise problem


def csr_blocks(source: Source, matrix: Matrix, survey: Survey) -> Iterator[RowBlock]:
    """The rows of a CSR matrix as stored."""
    stored = open_compressed(source, matrix)
    for first, last in ranges(stored.indptr, ENTRIES):
        yield _rows(stored, first, last, survey)


def _rows(stored: Compressed, first: int, last: int, survey: Survey) -> RowBlock:
    start, stop = int(stored.indptr[first]), int(stored.indptr[last])
    indptr = stored.indptr[first : last + 1] - start
    block = RowBlock(first, indptr, stored.read_indices(start, stop), stored.read_data(start, stop))
    survey.look(block.values, lambda at: (first + major_of(indptr, at), int(block.indices[at])))
    return block


def major_of(indptr: Array, at: int) -> int:
    """The row (of CSR) or column (of CSC) that an entry belongs to."""
    return int(np.searchsorted(indptr, at, side="right")) - 1


def csc_blocks(source: Source, matrix: Matrix, survey: Survey) -> Iterator[RowBlock]:
    """The rows of a CSC matrix: count each row's entries, then fill as many rows as fit, again."""
    stored = open_compressed(source, matrix)
    starts = np.concatenate([[0], np.cumsum(_count_rows(stored))])
    for first, last in ranges(starts, source.limits.transpose_entries):
        turned = _Turned(stored, starts, first, last)
        # Every pass reads all entries; the first one proves their values.
        turned.fill(survey if first == 0 else None)
        yield from turned.blocks()


def _column_ranges(stored: Compressed) -> Iterator[tuple[int, int]]:
    # Turning a block costs a pass over the rows, so it has at least as many entries as rows.
    return ranges(stored.indptr, max(ENTRIES, stored.n_minor))


def _count_rows(stored: Compressed) -> Array:
    counts = np.zeros(stored.n_minor, dtype=np.int64)
    for first, last in _column_ranges(stored):
        rows = stored.read_indices(int(stored.indptr[first]), int(stored.indptr[last]))
        counts += np.bincount(rows, minlength=stored.n_minor)
    return counts


class _Turned:
    """The rows `first` to `last` of a CSC matrix, filled column by column."""

    def __init__(self, stored: Compressed, starts: Array, first: int, last: int) -> None:
        self.stored, self.first, self.last = stored, first, last
        self.indptr = starts[first : last + 1] - starts[first]
        self.free = self.indptr[:-1].copy()  # where each row's next entry goes
        self.indices = np.empty(self.indptr[-1], dtype=np.int32)
        self.values = np.empty(self.indptr[-1], dtype=np.float32)

    def fill(self, survey: Survey | None) -> None:
        for first, last in _column_ranges(self.stored):
            start, stop = int(self.stored.indptr[first]), int(self.stored.indptr[last])
            rows = self.stored.read_indices(start, stop)
            values = self.stored.read_data(start, stop)
            indptr = self.stored.indptr[first : last + 1] - start
            if survey is not None:
                survey.look(values, _place_in_columns(rows, indptr, first))
            with np.errstate(over="ignore", invalid="ignore"):  # what the survey has told
                self._scatter(rows, values.astype(np.float32), indptr, first)

    def _scatter(self, rows: Array, values: Array, indptr: Array, column: int) -> None:
        if self.first > 0 or self.last < self.stored.n_minor:
            mine = (rows >= self.first) & (rows < self.last)
            indptr = np.concatenate([[0], np.cumsum(mine)])[indptr]
            rows, values = rows[mine] - self.first, values[mine]
        shape = (self.last - self.first, len(indptr) - 1)
        block = csc_matrix((values, rows, indptr), shape=shape).tocsr()
        counts = np.diff(block.indptr)
        places = np.repeat(self.free - block.indptr[:-1], counts) + np.arange(len(rows))
        self.indices[places] = block.indices + column
        self.values[places] = block.data
        self.free += counts

    def blocks(self) -> Iterator[RowBlock]:
        for first, last in ranges(self.indptr, ENTRIES):
            start, stop = self.indptr[first], self.indptr[last]
            indptr = self.indptr[first : last + 1] - start
            yield RowBlock(
                self.first + first, indptr, self.indices[start:stop], self.values[start:stop]
            )


def _place_in_columns(rows: Array, indptr: Array, first: int) -> Place:
    return lambda at: (int(rows[at]), first + major_of(indptr, at))
