"""Which matrix of a file holds the counts: each is looked at cheaply, the best is read whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from app.problems import Problem
from worker.intake.attached import Attached
from worker.intake.beside import Beside
from worker.intake.candidates import NO_COUNTS, WHOLE, Candidate, in_order
from worker.intake.classes import CODES, Judged, judge, sample_rows
from worker.intake.counts import Totals, write_counts
from worker.intake.frames import Sink
from worker.intake.limits import Limits
from worker.intake.matrices import Matrix, check_size
from worker.intake.query_file import QueryFile
from worker.intake.recovery import Recovery, prepare
from worker.intake.rows import RowBlock, merged
from worker.intake.tables import Table
from worker.intake.transformations import Floats
from worker.intake.values import Survey

Fractions = Literal["as-is", "round"]
ENOUGH_ENTRIES = 50_000
FIRST_BLOCKS = 4
MOST_PASSES = 2
"""Matrices that are read to their end: the second where the first proves to be no counts."""


@dataclass(frozen=True)
class Wanted:
    """What the caller said of the matrix."""

    layer: str | None
    whole: bool
    """Whether counts are wanted, not continuous values."""
    fractions: Fractions | None
    """What to do with counts that are no whole numbers; None refuses them."""


@dataclass
class Found:
    """One matrix that was read, and what it proved to be."""

    matrix: Matrix
    survey: Survey
    beside: Beside
    judged: Judged | None = None
    totals: Totals | None = None
    """None where nothing of worth was written."""
    problem: Problem | None = None
    """What is wrong with the structure of the matrix."""
    recovery: Recovery | None = None
    rounded: bool = False
    searched: list[dict[str, str]] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """What the report and the canonical query say of where counts came from."""
        facts: dict[str, Any] = {"counts_from": self.matrix.name, "searched": self.searched}
        if self.judged is not None:
            facts["counts_class"] = self.judged.kind
        if self.recovery is not None:
            facts["recovered"] = self.recovery.facts()
        if self.rounded:
            facts["rounded"] = True
        return facts

    @property
    def is_good(self) -> bool:
        written = self.totals is not None and self.totals.nnz > 0
        return written and self.survey.is_clean and self.refusal is None

    @property
    def refusal(self) -> str | None:
        """The code of the finding that the kind of values is, where it refuses the matrix."""
        if self.judged is None or self.judged.kind == "counts":
            return None
        allowed = self.survey.fractions and self.judged.kind in {"count-like", "log-normalised"}
        return None if allowed else CODES[self.judged.kind]


@dataclass
class CountsSearch:
    """Looks for the counts of one file, and writes them to the sink."""

    query: QueryFile
    wanted: Wanted
    limits: Limits
    obs: Table | None
    sink: Sink
    attached: Sequence[Attached] = ()
    """Features that are written behind those of the matrix."""
    searched: list[dict[str, str]] = field(default_factory=list)

    def find(self) -> Found:
        """The counts, or the likeliest matrix with all that speaks against it.

        Raises:
            Problem: there is no matrix, or none of the name that was asked for.
        """
        found = self._best(self._candidates())
        found.searched = self.searched
        return found

    def _candidates(self) -> list[Candidate]:
        if self.wanted.layer is not None or not self.wanted.whole:
            return in_order(self.query, [self.query.locate(self.wanted.layer)], None)
        usable: list[Matrix] = []
        first: Problem | None = None
        for name in self.query.candidates():
            try:
                usable.append(self.query.locate(name))
            except Problem as problem:
                first = first or problem
                self._note(name, problem.errors[0]["code"], problem.detail)
        if not usable:
            if first is not None:
                raise first
            usable.append(self.query.locate(None))  # says what there is
        return in_order(self.query, usable, None if self.obs is None else len(self.obs))

    def _best(self, candidates: Sequence[Candidate]) -> Found:
        if len(candidates) == 1:
            return self._noted(self._read(candidates[0].matrix, to_end=True))
        tried: list[tuple[Candidate, Found | None]] = []
        passes = 0
        for candidate in candidates:
            found = None
            if candidate.rank < NO_COUNTS and passes < MOST_PASSES:
                found = self._noted(self._read(candidate.matrix, to_end=False))
                if found.is_good:
                    self._note_others(candidates[len(tried) + 1 :], found)
                    return found
                passes += found.totals is not None or found.problem is not None
                self.sink.restart()
            else:
                self._note(candidate.matrix.name, candidate.kind, candidate.reason)
            tried.append((candidate, found))
        return self._likeliest(tried)

    def _likeliest(self, tried: list[tuple[Candidate, Found | None]]) -> Found:
        """Of several that are all no counts: read to its end, so that all is told of it."""
        candidate, found = min(tried, key=lambda each: (_hopes(each[1]), -each[0].order))
        if found is None or found.totals is None:
            found = self._read(candidate.matrix, to_end=True)
            self.sink.restart()
        return found

    def _read(self, matrix: Matrix, *, to_end: bool) -> Found:
        beside = Beside.of(self.query, matrix, self.attached)
        found = Found(matrix, Survey(whole=self.wanted.whole), beside)
        try:
            check_size(matrix, self.limits)
            blocks = self.query.blocks(matrix, found.survey)
            first = _first_blocks(blocks)
            found.judged = self._judge(first, found)
            if to_end or (found.refusal is None and found.survey.is_clean):
                rest = self._transformed(chain(first, blocks), first, found)
                found.totals = self._write(rest, found)
        except Problem as problem:
            found.problem = problem
        return found

    def _write(self, blocks: Iterator[RowBlock], found: Found) -> Totals:
        shape = (found.matrix.shape[0], found.beside.width)
        rows = found.beside.blocks(blocks, self.limits)
        return write_counts(rows, shape, self.sink, found.survey)

    def _judge(self, first: list[RowBlock], found: Found) -> Judged | None:
        """None for values that are no kind of counts, which the survey has told."""
        if not self.wanted.whole or set(found.survey.faults) - {"fractional-values"}:
            return None
        judged = judge(_sample(first, found.matrix.shape[1]))
        allowed = self.wanted.fractions is not None and judged.kind in {"counts", "count-like"}
        if allowed or (judged.kind == "log-normalised" and judged.transformation is not None):
            found.survey.allow_fractions()
        return judged

    def _transformed(
        self, blocks: Iterator[RowBlock], first: list[RowBlock], found: Found
    ) -> Iterator[RowBlock]:
        judged, n_genes = found.judged, found.matrix.shape[1]
        if judged is None or not found.survey.fractions:
            return blocks
        if judged.transformation is None:
            found.rounded = self.wanted.fractions == "round"
            return _count_like(blocks, found)
        found.recovery = prepare(
            next(block for block in first if len(block.values)),
            judged.transformation,
            single=judged.single,
            n_genes=n_genes,
            survey=found.survey,
            columns=_numbers(self.obs),
        )
        return found.recovery.counts(blocks)

    def _noted(self, found: Found) -> Found:
        kind, reason = _outcome(found)
        self._note(found.matrix.name, kind, reason)
        return found

    def _note_others(self, others: Sequence[Candidate], chosen: Found) -> None:
        for each in others:
            fewer = (
                f"; it has {each.matrix.shape[1]:,} genes, `{chosen.matrix.name}` has "
                f"{chosen.matrix.shape[1]:,}"
            )
            self._note(
                each.matrix.name, each.kind, each.reason + (fewer if each.rank == WHOLE else "")
            )

    def _note(self, name: str, kind: str, reason: str) -> None:
        self.searched.append({"matrix": name, "class": kind, "reason": reason})


def _first_blocks(blocks: Iterator[RowBlock]) -> list[RowBlock]:
    """As many as are needed to judge by; a block is all that a check holds of a matrix.

    Those of empty cells show nothing and take next to no room: they do not count.
    """
    first: list[RowBlock] = []
    entries = filled = 0
    for block in blocks:
        first.append(block)
        entries += len(block.values)
        filled += bool(len(block.values))
        if entries >= ENOUGH_ENTRIES or filled >= FIRST_BLOCKS:
            break
    return first


def _sample(first: list[RowBlock], n_genes: int) -> RowBlock:
    """Rows of the fullest of the first blocks."""
    if not first:
        return RowBlock(0, np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int32), np.empty(0))
    fullest = sample_rows(max(first, key=lambda block: len(block.values)))
    return sample_rows(merged(fullest, n_genes))  # of zeros that were stored nothing is left


def _count_like(blocks: Iterator[RowBlock], found: Found) -> Iterator[RowBlock]:
    """Blocks of fractional counts, each judged by itself: a later one may be something else."""
    for block in blocks:
        judged = None
        if found.survey.is_clean and len(block.values):
            judged = judge(_sample([block], found.matrix.shape[1]))
        if judged is not None and judged.kind == "count-like":
            found.judged = judged
        elif judged is not None and judged.kind != "counts":
            at = (block.first, int(block.indices[0]))
            found.survey.note(CODES[judged.kind], at, float(block.values[0]), len(block.values))
        if found.rounded and found.survey.is_clean:
            block = merged(block, found.matrix.shape[1])
            block = RowBlock(block.first, block.indptr, block.indices, np.rint(block.values))
        yield block


def _numbers(obs: Table | None) -> list[Floats]:
    """The columns of obs that hold a number for every cell."""
    if obs is None:
        return []
    return [
        column.values.to_numpy(zero_copy_only=False).astype(np.float64)
        for column in obs.columns
        if (pa.types.is_integer(column.values.type) or pa.types.is_floating(column.values.type))
        and not column.values.null_count
    ]


def _outcome(found: Found) -> tuple[str, str]:
    """What the report calls a matrix that was read, and why."""
    if found.problem is not None:
        return found.problem.errors[0]["code"], found.problem.detail
    if found.refusal is not None and found.judged is not None:
        return found.judged.kind, found.judged.reason
    if not found.survey.is_clean:
        code, fault = next(iter(found.survey.faults.items()))
        return code, f"{fault.number:,} of its values are refused"
    if found.judged is None:
        return "continuous", "as the caller said"
    if found.totals is not None and found.totals.nnz == 0:
        return "empty", "it holds no value above zero"
    return found.judged.kind, found.judged.reason


def _hopes(found: Found | None) -> int:
    """How near a matrix that was refused is to counts; the lower, the more is to be told of it."""
    if found is None:
        return 4
    if found.totals is not None and found.totals.nnz > 0:
        return 0
    if found.judged is None:
        return 3
    return 1 if found.judged.kind in {"counts", "count-like"} else 2
