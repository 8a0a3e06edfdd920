"""One of several files that are read as one: its matrix with its genes."""

from __future__ import annotations

from collections.abc import Sequence

from app.problems import Problem
from worker.intake.findings import Findings, located
from worker.intake.matrices import Matrix
from worker.intake.orientation import transposition
from worker.intake.query_file import QueryFile
from worker.intake.tables import Table


def anatomy(
    query: QueryFile, layer: str | None, obs: Table, findings: Findings
) -> tuple[Matrix, Table]:
    """A matrix of one part and its genes, whose names belong to it."""
    matrix = query.locate(layer)
    genes = query.genes(matrix, findings)
    if matrix.shape == (len(obs), len(genes)):
        return matrix, genes
    raise transposition(matrix, obs, genes) or located(
        "shape-mismatch",
        matrix.path,
        f"`{matrix.name}` is {matrix.shape[0]:,} x {matrix.shape[1]:,}, but there are names of "
        f"{len(obs):,} cells and {len(genes):,} genes.",
    )


def together(faults: list[Problem]) -> Problem:
    """One problem that points at all that several do."""
    first = faults[0]
    errors = [error for fault in faults for error in fault.errors]
    return type(first)(first.detail, fix=first.fix, errors=errors)


def shared(found: Sequence[list[str]]) -> list[str]:
    """What all of several lists hold, in the order of the first."""
    return [name for name in found[0] if all(name in names for names in found)] if found else []
