"""A matrix that is no counts: say what was found where, and where the counts may be."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from app.problems import Problem
from worker.intake.candidates import PEEKED
from worker.intake.counts import Totals
from worker.intake.counts_search import Found
from worker.intake.findings import Findings, located
from worker.intake.limits import LARGEST_COUNT
from worker.intake.matrices import Matrix
from worker.intake.query_file import QueryFile
from worker.intake.recovery import Recovery
from worker.intake.tables import Table
from worker.intake.values import Fault, Survey

SAID = {
    "not-a-number": "are not a number (NaN)",
    "infinite-values": "are infinite",
    "negative-values": "are negative",
    "fractional-values": "are not whole numbers",
    "values-too-large": "are too large",
    "log-normalised": "are in cells where they are no logarithms of scaled counts",
    "normalised-values": "are in cells where they look normalised",
    "rounded-cpm": "are in cells where they look normalised and rounded",
    "truncated-values": "are in cells where they look like truncated logarithms",
}
LOOKED_AT = 20
"""Other matrices that may be counts: a file may have a hundred thousand."""
COUNT_LIKE = (
    "If these are counts as SoupX, RSEM, alevin or STARsolo's EM write them, send the file again "
    "with counts=as-is or with counts=round."
)
Names = tuple[Table | None, Table | None]
"""Of cells and genes, where they fit the matrix."""


def tell_faults(
    query: QueryFile, matrix: Matrix, survey: Survey, names: Names, findings: Findings
) -> None:
    """One finding for each kind of value that a matrix of this input may not hold."""
    if survey.is_clean:
        return
    fix = _fix(query, matrix, whole=survey.whole)
    _tell(matrix, survey, names, findings, fix)


def tell_found(query: QueryFile, found: Found, names: Names, findings: Findings) -> None:
    """What speaks against the matrix that was read, or what was made of it."""
    if found.is_good:
        _tell_kind(found, findings)
        return
    refusal = found.refusal
    if refusal is None and found.survey.is_clean:
        return
    fix = _fix(query, found.matrix, whole=found.survey.whole)
    if refusal == "fractional-values":
        _tell(found.matrix, found.survey, names, findings, f"{COUNT_LIKE} {fix}")
        return
    if refusal is not None and found.judged is not None:
        detail = f"`{found.matrix.name}` holds no raw counts: {found.judged.reason}."
        findings.tell(refusal, found.matrix.path, detail, fix)
    # What kind of values they are says more than that they are fractions.
    besides = {"fractional-values"} if refusal else set()
    _tell(found.matrix, found.survey, names, findings, fix, besides=besides)


def _tell_kind(found: Found, findings: Findings) -> None:
    if found.recovery is not None:
        _tell_recovery(found, found.recovery, findings)
    elif found.judged is not None and found.judged.kind == "count-like":
        what = "rounded to the nearest whole number" if found.rounded else "kept as they are"
        findings.tell(
            "count-like",
            found.matrix.path,
            f"`{found.matrix.name}` holds counts that are not whole numbers; as asked, they are "
            f"{what}.",
            "Compare with a mapping of the raw counts where you have them.",
        )


def _tell_recovery(found: Found, recovery: Recovery, findings: Findings) -> None:
    name, path = found.matrix.name, found.matrix.path
    findings.tell(
        "counts-recovered",
        path,
        f"`{name}` holds log-normalised values (base {recovery.transformation.base}). Their counts "
        f"were recovered: every cell's are whole to within {recovery.deviation:.1e}, and "
        f"normalised again they differ from the file by {recovery.round_trip:.1e} at most.",
        "Nothing needs doing; upload the raw counts if you have them.",
    )
    if recovery.undetermined:
        findings.tell(
            "undetermined-cells",
            path,
            f"{recovery.undetermined:,} cells express so few genes that only the ratios of their "
            "counts are certain; the smallest whole numbers were taken.",
            "Add the total counts of each cell to obs before uploading, or upload the raw counts.",
        )


def _tell(
    matrix: Matrix,
    survey: Survey,
    names: Names,
    findings: Findings,
    fix: str,
    *,
    besides: Container[str] = (),
) -> None:
    pointer = matrix.path if matrix.layout == "dense" else f"{matrix.path}/data"
    for code, fault in survey.faults.items():
        if code not in besides:
            detail = _detail(matrix, code, fault, names, whole=survey.whole)
            findings.tell(code, fault.pointer or pointer, detail, fix)


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
    if column >= len(var):  # of a feature that stands beside the matrix
        return ""
    cell, gene = obs.index[row].as_py(), var.index[column].as_py()
    return f", for cell {cell!r} (row {row}) and gene {gene!r} (column {column})"


def refuse_zeros(query: QueryFile, matrix: Matrix, totals: Totals) -> None:
    if totals.nnz == 0:
        detail = f"`{matrix.name}` holds no value above zero."
        raise located("no-counts", matrix.path, detail, _fix(query, matrix, whole=True))


def _fix(query: QueryFile, matrix: Matrix, *, whole: bool) -> str:
    if not whole:
        return "Replace or remove such values before uploading."
    others = [name for name in query.matrices() if name != matrix.name][:LOOKED_AT]
    found = [name for name in others if _is_like(query, name)]
    if found:
        names = " and ".join(f"`{name}`" for name in found)
        return f"{names} looks like raw counts: send the file again with layer={found[0]}."
    if query.format.startswith("10x"):
        return (
            "Upload the matrix as the pipeline that counted wrote it, before it was corrected or "
            "normalised, or, for a reference trained on continuous values, send the file with "
            "input=continuous."
        )
    return (
        "Raw counts are usually in layers['counts'] or in .raw; this file has none there. Export "
        "them from where the data were first read, before normalisation, or, for a reference "
        "trained on continuous values, send the file with input=continuous."
    )


def _is_like(query: QueryFile, name: str) -> bool:
    """By its first values."""
    survey = Survey(whole=True)
    try:
        values = query.peek(query.locate(name), PEEKED)
    except Problem:
        return False
    survey.look(values, None)
    return bool(survey.is_clean and len(values) and values.max() > 1)
