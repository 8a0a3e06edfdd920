"""A matrix that is no counts: say what was found where, and where the counts may be."""

from __future__ import annotations

import numpy as np

from app.problems import Problem
from worker.intake.counts import Totals
from worker.intake.findings import Findings, located
from worker.intake.limits import LARGEST_COUNT
from worker.intake.matrices import Matrix
from worker.intake.query_file import QueryFile
from worker.intake.tables import Table
from worker.intake.values import Fault, Survey

SAID = {
    "not-a-number": "are not a number (NaN)",
    "infinite-values": "are infinite",
    "negative-values": "are negative",
    "fractional-values": "are not whole numbers",
    "values-too-large": "are too large",
}
Names = tuple[Table | None, Table | None]
"""Of cells and genes, where they fit the matrix."""


def tell_faults(
    query: QueryFile, matrix: Matrix, survey: Survey, names: Names, findings: Findings
) -> None:
    """One finding for each kind of value that a matrix of this input may not hold."""
    if survey.is_clean:
        return
    fix = _fix(query, matrix, whole=survey.whole)
    pointer = matrix.path if matrix.layout == "dense" else f"{matrix.path}/data"
    for code, fault in survey.faults.items():
        findings.tell(
            code,
            fault.pointer or pointer,
            _detail(matrix, code, fault, names, whole=survey.whole),
            fix,
        )


def _detail(matrix: Matrix, code: str, fault: Fault, names: Names, *, whole: bool) -> str:
    bound = f"{LARGEST_COUNT:,}" if whole else f"{np.finfo(np.float32).max:.6g}"
    wanted = "raw counts are whole numbers" if whole else "values must be finite and"
    return (
        f"`{matrix.name}` holds {fault.number:,} values that {SAID[code]}; the first is "
        f"{fault.value:.6g}{_where(fault, names)}; {wanted} from 0 to {bound}."
    )


def _where(fault: Fault, names: Names) -> str:
    obs, var = names
    if obs is None or var is None or fault.place is None:
        return ""
    row, column = fault.place
    cell, gene = obs.index[row].as_py(), var.index[column].as_py()
    return f", for cell {cell!r} (row {row}) and gene {gene!r} (column {column})"


def refuse_zeros(query: QueryFile, matrix: Matrix, totals: Totals) -> None:
    if totals.nnz == 0:
        detail = f"`{matrix.name}` holds no value above zero."
        raise located("no-counts", matrix.path, detail, _fix(query, matrix, whole=True))


def _fix(query: QueryFile, matrix: Matrix, *, whole: bool) -> str:
    if not whole:
        return "Replace or remove such values before uploading."
    found = [name for name in query.matrices() if name != matrix.name and _is_like(query, name)]
    if found:
        names = " and ".join(f"`{name}`" for name in found)
        return f"{names} looks like raw counts: send the file again with layer={found[0]}."
    return (
        "Raw counts are usually in layers['counts'] or in .raw; this file has none there. Export "
        "them from where the data were first read, before normalisation, or, for a reference "
        "trained on continuous values, send the file with input=continuous."
    )


def _is_like(query: QueryFile, name: str) -> bool:
    """By its first rows."""
    survey = Survey(whole=True)
    try:
        first = next(iter(query.blocks(query.locate(name), survey)), None)
    except Problem:
        return False
    return bool(first and survey.is_clean and len(first.values) and first.values.max() > 1)
