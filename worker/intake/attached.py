"""Features that stand beside the matrix of a file: proved, and joined to it cell by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from app.problems import Problem
from models_store.feature_kinds import TYPES, FeatureKind, kinds_of
from worker.intake.counts import with_sums
from worker.intake.findings import Findings, located
from worker.intake.limits import Limits
from worker.intake.rows import ENTRIES, RowBlock, ranges
from worker.intake.values import Array, Survey

SAID = {
    "not-a-number": "are not a number (NaN)",
    "infinite-values": "are infinite",
    "negative-values": "are negative",
    "fractional-values": "are not whole numbers",
    "values-too-large": "are too large",
}
WHAT: dict[FeatureKind, str] = {"gene": "genes", "region": "regions", "protein": "proteins"}
IN_COUNTS = "Store their raw counts there, or leave this table out of the file."


@dataclass(frozen=True)
class Attached:
    """Counts of further features; nothing of it is proved before `proved`."""

    name: str
    """As the report calls it, such as `obsm/protein_expression`."""
    path: str
    types: list[str]
    names: list[str]
    n_rows: int
    read: Callable[[Survey], Iterator[RowBlock]]
    """Its rows in order, in blocks of bounded memory; raises Problem where it is damaged."""
    sizes: Array | None = None
    """How many entries each row stores; None before it is proved."""
    rows: Array | None = None
    """For each cell of the query its row here, -1 where it has none. None: one row for each."""
    asked: bool | None = None
    """Of a table of obsm: whether the caller named it. None: it is no such table."""

    @classmethod
    def of_kind(
        cls,
        kind: FeatureKind,
        name: str,
        path: str,
        features: pa.Array,
        n_rows: int,
        read: Callable[[Survey], Iterator[RowBlock]],
    ) -> Self:
        names = features.to_pylist()
        return cls(name, path, [TYPES[kind]] * len(names), names, n_rows, read)

    @property
    def width(self) -> int:
        return len(self.names)

    @property
    def n_cells(self) -> int:
        """Of the query that it is joined to."""
        return self.n_rows if self.rows is None else len(self.rows)

    def proved(self) -> Self:
        """The same, all of it read once.

        Raises:
            Problem: names repeat, the structure is damaged, or the values are no counts, alone or
                added up.
        """
        twice = first_repeat(self.names, set())
        if twice is not None:
            raise located(
                "features-repeat",
                self.path,
                f"`{self.name}` names {twice!r} more than once.",
                "Give every feature a name of its own, and write the file again.",
            )
        survey, sizes, at = Survey(whole=True), np.zeros(self.n_rows, dtype=np.int32), 0
        for block in self.read(survey):
            sizes[block.first : block.first + len(block)] = np.diff(block.indptr)
            at = block.first + len(block)
            if survey.is_clean:
                with_sums(block, self.width, survey)
            if not survey.is_clean:
                raise self._no_counts(survey)
        if at != self.n_rows:
            raise located("wrong-length", self.path, f"{self.path} has {at:,} rows.")
        return replace(self, sizes=sizes)

    def _no_counts(self, survey: Survey) -> Problem:
        code, fault = next(iter(survey.faults.items()))
        where = ""
        if fault.place is not None:
            where = f", of {self.names[fault.place[1]]!r} in row {fault.place[0]}"
        return located(
            code,
            self.path,
            f"`{self.name}` holds values that {SAID[code]}; the first is {fault.value:.6g}{where}.",
            IN_COUNTS,
        )


def first_repeat(names: Iterable[str], seen: set[str]) -> str | None:
    """The first name that was seen before; the others are added to what was seen."""
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def tell_left_out(problem: Problem, name: str, what: str, findings: Findings) -> None:
    """A warning instead of the error that the same would be had the caller asked for it."""
    findings.tell(
        "features-left-out",
        problem.errors[0]["pointer"] if problem.errors else f"/{name}",
        f"The {what} of `{name}` are left out: {problem.detail}",
        "Nothing needs doing for a reference of genes alone; otherwise store raw counts there, "
        "with a name for each feature and a row for each cell.",
    )


def tell_joined(attached: Sequence[Attached], findings: Findings) -> None:
    for each in attached:
        kinds = Counter(kinds_of(each.types))
        said = " and ".join(f"{number:,} {WHAT[kind]}" for kind, number in kinds.items() if kind)
        findings.tell(
            "features-joined",
            each.path,
            f"{said} are taken from `{each.name}`, as features beside those of the matrix"
            f"{_told_rows(each)}.",
            _PARTLY if _lacks_proteins(each) else _JOINED,
        )


_JOINED = "Nothing needs doing; they are never matched with genes of a reference."
_PARTLY = (
    "Cells of one batch count as measured for the same proteins: give those without a row a batch "
    "of their own, or what was not measured counts as zero."
)


def _lacks_proteins(attached: Attached) -> bool:
    """Whether cells of the query have no row in a table of proteins."""
    has_proteins = "protein" in kinds_of(attached.types)
    return has_proteins and attached.rows is not None and bool((attached.rows < 0).any())


def _told_rows(attached: Attached) -> str:
    if attached.rows is None:
        return ""
    taken, n_cells = int((attached.rows >= 0).sum()), len(attached.rows)
    said = ""
    if taken < attached.n_rows:
        said = f"; of its {attached.n_rows:,} rows the {taken:,} whose cells the query has"
    if taken < n_cells:
        said += f"; {n_cells - taken:,} of the query's {n_cells:,} cells have no row there"
    return said


def widened(
    blocks: Iterable[RowBlock], n_main: int, attached: Sequence[Attached], limits: Limits
) -> Iterator[RowBlock]:
    """The rows of a matrix with attached features behind its own, in blocks of bounded memory.

    Raises:
        Problem: cells stand in another order, and are too many to be held at once.
    """
    if not attached:
        yield from blocks
        return
    readers = [_Rows(each, limits) for each in attached]
    added = np.sum([reader.sizes for reader in readers], axis=0)
    for block in blocks:
        stored = np.diff(block.indptr) + added[block.first : block.first + len(block)]
        starts = np.concatenate([[0], np.cumsum(stored, dtype=np.int64)])
        for first, last in ranges(starts, ENTRIES):
            yield _joined(block, first, last, n_main, readers)


def _joined(
    block: RowBlock, first: int, last: int, n_main: int, readers: Sequence[_Rows]
) -> RowBlock:
    begin, end = int(block.indptr[first]), int(block.indptr[last])
    indptr = block.indptr[first : last + 1] - begin
    parts = [(indptr, block.indices[begin:end], block.values[begin:end], 0)]
    at = n_main
    for reader in readers:
        rows = reader.take(block.first + first, block.first + last)
        parts.append((rows.indptr, rows.indices, rows.data, at))
        at += reader.width
    whole = np.zeros(last - first + 1, dtype=np.int64)
    whole[1:] = np.cumsum(sum(np.diff(pointers) for pointers, _, _, _ in parts))
    indices = np.empty(whole[-1], dtype=np.int32)
    values = np.empty(whole[-1], dtype=np.float64)
    free = whole[:-1].copy()
    for pointers, columns, data, offset in parts:
        number = np.diff(pointers)
        places = np.repeat(free - pointers[:-1], number) + np.arange(len(columns))
        indices[places], values[places] = columns + offset, data
        free += number
    return RowBlock(block.first + first, whole, indices, values)


class _Rows:
    """Rows of attached features, taken in the order of the cells that they are joined to.

    Where that is their own order too, only a window of them is held.
    """

    def __init__(self, attached: Attached, limits: Limits) -> None:
        assert attached.sizes is not None
        self.width = attached.width
        self._rows = attached.rows
        self.sizes = stored_by(attached)
        self._blocks = attached.read(Survey(whole=True))
        self._first = 0
        self._held = csr_matrix((0, self.width))
        if not _ascends(attached.rows):
            self._hold_all(attached, limits)

    def _hold_all(self, attached: Attached, limits: Limits) -> None:
        assert attached.sizes is not None
        entries = int(attached.sizes.sum(dtype=np.int64))
        if entries > limits.transpose_entries:
            raise located(
                "out-of-memory",
                attached.path,
                f"`{attached.name}` has its cells in another order, and too many counts to be "
                "sorted in a check.",
                "Write all modalities with their cells in one order, or name one of them with "
                "modality=...",
            )
        self._pull(attached.n_rows)

    def take(self, first: int, last: int) -> csr_matrix:
        """The rows of these cells, empty for those that have none."""
        rows = np.arange(first, last) if self._rows is None else self._rows[first:last]
        there = rows[rows >= 0]
        if not len(there):
            return csr_matrix((last - first, self.width))
        if _ascends(self._rows):
            self._drop(int(there[0]))
        self._pull(int(there.max()) + 1)
        held = self._held
        # One more row, which is empty, for the cells that have none.
        indptr = np.append(held.indptr, held.indptr[-1])
        known = csr_matrix((held.data, held.indices, indptr), shape=(len(indptr) - 1, self.width))
        return known[np.where(rows >= 0, rows - self._first, held.shape[0])]

    def _drop(self, upto: int) -> None:
        gone = min(max(upto - self._first, 0), self._held.shape[0])
        if gone:
            self._held = self._held[gone:]
            self._first += gone

    def _pull(self, upto: int) -> None:
        held, at = [self._held], self._first + int(self._held.shape[0])
        parts = []
        while at < upto:
            block = next(self._blocks)
            parts.append(block)
            at += len(block)
        if not parts:
            return
        lengths = [held[0].indptr]
        for block in parts:
            lengths.append(block.indptr[1:] + lengths[-1][-1])
        data = np.concatenate([held[0].data, *(block.values for block in parts)])
        indices = np.concatenate([held[0].indices, *(block.indices for block in parts)])
        indptr = np.concatenate(lengths)
        self._held = csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, self.width))


def stored_by(attached: Attached) -> Array:
    """How many entries each cell of the query has here."""
    assert attached.sizes is not None
    if attached.rows is None:
        return attached.sizes
    return np.append(attached.sizes, 0)[attached.rows]


def _ascends(rows: Array | None) -> bool:
    if rows is None:
        return True
    there = rows[rows >= 0]
    return bool((there[1:] > there[:-1]).all())
