"""The matrices among which counts are looked for, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.problems import Problem
from worker.intake.matrices import Matrix
from worker.intake.query_file import QueryFile
from worker.intake.values import Array, Survey

PEEKED = 65_536
"""Values of each matrix by which it is decided which to read first."""
WHOLE, FRACTIONS, NOTHING_YET, NO_COUNTS = range(4)


@dataclass(frozen=True)
class Candidate:
    """A matrix as its first values show it."""

    matrix: Matrix
    order: int
    kind: str
    reason: str
    rank: int
    """Matrices of whole numbers come first, what cannot be counts last."""

    @property
    def preference(self) -> tuple[int, int, int]:
        genes = self.matrix.shape[1] if self.rank == WHOLE else 0
        return self.rank, -genes, self.order


def in_order(query: QueryFile, matrices: Sequence[Matrix], n_cells: int | None) -> list[Candidate]:
    """Matrices in the order in which they are worth reading.

    Among several of whole numbers the one with most genes comes first: `raw/X` often has the
    genes that were left out of `X`. A single matrix is not even looked at.
    """
    if len(matrices) == 1:
        return [Candidate(matrices[0], 0, "", "", NOTHING_YET)]
    found = [_peek(query, matrix, order, n_cells) for order, matrix in enumerate(matrices)]
    return sorted(found, key=lambda each: each.preference)


def _peek(query: QueryFile, matrix: Matrix, order: int, n_cells: int | None) -> Candidate:
    if n_cells is not None and matrix.shape[0] != n_cells:
        reason = f"it has {matrix.shape[0]:,} rows, but the file {n_cells:,} cells"
        return Candidate(matrix, order, "shape-mismatch", reason, NO_COUNTS)
    try:
        kind, reason, rank = _first_look(query.peek(matrix, PEEKED))
    except Problem as problem:
        return Candidate(matrix, order, problem.errors[0]["code"], problem.detail, NO_COUNTS)
    return Candidate(matrix, order, kind, reason, rank)


def _first_look(values: Array) -> tuple[str, str, int]:
    seen = f"its first {len(values):,} values"
    if not len(values):
        return "empty", "it stores no values", NO_COUNTS
    survey = Survey(whole=True)
    survey.look(values, None)
    if worse := [code for code in survey.faults if code != "fractional-values"]:
        return worse[0], f"found among {seen}", NO_COUNTS
    if not survey.is_clean:
        return "fractional-values", f"{seen} are not all whole numbers", FRACTIONS
    if not values.any():
        return "empty", f"{seen} are zero", NOTHING_YET
    return "counts", f"{seen} are whole numbers", WHOLE
