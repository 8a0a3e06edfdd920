"""A matrix that is no counts: say what was found where, and where the counts may be."""

from __future__ import annotations

import numpy as np

from app.problems import NotCounts, Problem
from worker.intake.findings import located, reading
from worker.intake.matrices import Matrix, available, locate
from worker.intake.rows import ENTRIES
from worker.intake.source import Source
from worker.intake.sparse import open_compressed
from worker.intake.tables import Table
from worker.intake.values import Array, BadValue, check_number_type, first_fault

PROBED = ENTRIES // 8
"""Values read of each other matrix to tell whether it looks like counts."""


def not_counts(
    source: Source, matrix: Matrix, bad: BadValue, tables: tuple[Table, Table], *, whole: bool
) -> Problem:
    """The problem for one value that a matrix of this input may not hold."""
    obs, var = tables
    cell, gene = obs.index[bad.row].as_py(), var.index[bad.column].as_py()
    wanted = "raw counts are whole numbers from 0 up" if whole else "values must be finite and >= 0"
    detail = (
        f"`{matrix.name}` holds {bad.value:.6g}, which {bad.reason}, for cell {cell!r} "
        f"(row {bad.row}) and gene {gene!r} (column {bad.column}); {wanted}."
    )
    pointer = matrix.path if matrix.layout == "dense" else f"{matrix.path}/data"
    return located(NotCounts, pointer, detail, _fix(source, matrix, whole=whole))


def all_zero(source: Source, matrix: Matrix) -> Problem:
    detail = f"`{matrix.name}` holds no value above zero."
    return located(NotCounts, matrix.path, detail, _fix(source, matrix, whole=True))


def _fix(source: Source, matrix: Matrix, *, whole: bool) -> str:
    if not whole:
        return "Replace or remove such values before uploading."
    found = [name for name in available(source) if name != matrix.name and _is_like(source, name)]
    if found:
        names = " and ".join(f"`{name}`" for name in found)
        return f"{names} looks like raw counts: send the file again with layer={found[0]}."
    return (
        "Raw counts are usually in layers['counts'] or in .raw; this file has none there. Export "
        "them from where the data were first read, before normalisation, or, for a reference "
        "trained on continuous values, send the file with input=continuous."
    )


def _is_like(source: Source, name: str) -> bool:
    try:
        sample = _sample(source, locate(source, name))
    except Problem:
        return False
    return bool(len(sample) and sample.max() > 1 and first_fault(sample, whole=True) is None)


def _sample(source: Source, matrix: Matrix) -> Array:
    """The first values of a matrix, without zeros."""
    if matrix.layout == "dense":
        dataset = source.dataset(matrix.path)
        check_number_type(dataset.dtype, matrix.path)
        with reading(matrix.path):
            values: Array = dataset[: max(1, PROBED // max(1, matrix.shape[1]))].ravel()
    else:
        stored = open_compressed(source, matrix)
        values = stored.read_data(0, min(PROBED, int(stored.indptr[-1])))
    return values[np.flatnonzero(values)]
