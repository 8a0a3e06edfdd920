"""One upload, from its first byte to the canonical query and the inspection report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from app.problems import FileTooLarge, NoCells, UnreadableFile
from worker.intake import cells, genes
from worker.intake.counts import Totals, warn_about_counts, write_counts
from worker.intake.findings import Findings, located, reading
from worker.intake.frames import Sink
from worker.intake.kinds import check_kind
from worker.intake.limits import Limits
from worker.intake.look import look
from worker.intake.matrices import Matrix, available, locate
from worker.intake.signature import check_signature
from worker.intake.source import Source
from worker.intake.tables import Table, read_table
from worker.intake.uncounted import all_zero, not_counts
from worker.intake.values import BadValue

LISTED_DROPS = 100
NOT_KEPT = ("layers", "uns", "obsm", "varm", "obsp", "varp")


@dataclass(frozen=True)
class Request:
    """What the caller said about the file."""

    layer: str | None = None
    input: str = "counts"

    @property
    def whole(self) -> bool:
        return self.input == "counts"


def check_file(path: Path, request: Request, limits: Limits, sink: Sink) -> dict[str, Any]:
    """Prove the file, write the canonical query to the sink and return the inspection.

    Raises:
        Problem: the file is refused; `errors` lists everything that was found.
    """
    check_signature(path)
    findings = Findings()
    with _opened(path) as file:
        look(file, limits)
        source = Source(file, limits)
        check_kind(source)
        matrix, obs, var = _anatomy(source, request, findings)
        totals = _prove_counts(source, request, (matrix, obs, var), sink)
        warn_about_counts(totals, findings)
        cells.warn_about_cells(obs, findings)
        genes.warn_about_genes(var, findings)
        columns = genes.gene_columns(var, findings)
        sink.write("genes.json", genes.as_json(var, columns))
        sink.write("obs.arrow", cells.as_arrow(obs))
        facts = _facts(source, request, matrix, totals, obs)
        sink.write("canonical.json", json.dumps({"format": 1, **facts}).encode())
    return {
        **facts,
        "counts": totals.as_dict(),
        "genes": {"example": var.index.slice(0, 5).to_pylist(), "columns": [genes.INDEX, *columns]},
        "columns": cells.describe_columns(obs),
        "warnings": findings.warnings,
    }


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    with reading("/"):
        file = h5py.File(path, "r", locking=False)
    with file:
        yield file


def _anatomy(source: Source, request: Request, findings: Findings) -> tuple[Matrix, Table, Table]:
    """The matrix and its two tables, all of them read before anything is refused."""
    matrix: Matrix | None = None
    tables: list[Table] = []
    with findings.collecting():
        matrix = locate(source, request.layer)
    for path in ("/obs", matrix.var_path if matrix else "/var"):
        with findings.collecting():
            tables.append(read_table(source, path, findings))
    if matrix is not None and len(tables) == 2:
        with findings.collecting():
            _check_shape(matrix, *tables, limits=source.limits)
    findings.raise_problems()
    assert matrix is not None
    return matrix, tables[0], tables[1]


def _check_shape(matrix: Matrix, obs: Table, var: Table, *, limits: Limits) -> None:
    n_cells, n_genes = matrix.shape
    if n_cells > limits.cells or n_genes > limits.genes:
        raise located(
            FileTooLarge,
            matrix.path,
            f"`{matrix.name}` has {n_cells:,} cells and {n_genes:,} genes; the limits are "
            f"{limits.cells:,} and {limits.genes:,}.",
            "Upload the cells in several files.",
        )
    if matrix.shape != (len(obs), len(var)):
        raise located(
            UnreadableFile,
            matrix.path,
            f"`{matrix.name}` is {n_cells:,} x {n_genes:,}, but {obs.path} names {len(obs):,} "
            f"cells and {var.path} {len(var):,} genes.",
        )
    if not n_cells or not n_genes:
        raise located(
            NoCells,
            matrix.path,
            f"`{matrix.name}` has {n_cells:,} cells and {n_genes:,} genes: nothing to map.",
            "Check the filter that was applied before the file was written.",
        )


def _prove_counts(
    source: Source, request: Request, anatomy: tuple[Matrix, Table, Table], sink: Sink
) -> Totals:
    matrix, obs, var = anatomy
    try:
        totals = write_counts(source, matrix, sink, whole=request.whole)
    except BadValue as bad:
        raise not_counts(source, matrix, bad, (obs, var), whole=request.whole) from bad
    if totals.nnz == 0:
        raise all_zero(source, matrix)
    return totals


def _facts(
    source: Source, request: Request, matrix: Matrix, totals: Totals, obs: Table
) -> dict[str, Any]:
    dropped = {
        group: source.keys(f"/{group}")[:LISTED_DROPS]
        for group in NOT_KEPT
        if source.has(f"/{group}")
    }
    dropped["matrices"] = [name for name in available(source) if name != matrix.name]
    dropped["layers"] = [
        name for name in dropped.get("layers", []) if f"layers/{name}" != matrix.name
    ]
    dropped["obs"] = obs.unread
    return {
        "n_cells": matrix.shape[0],
        "n_genes": matrix.shape[1],
        "nnz": totals.nnz,
        "input": request.input,
        "counts_from": matrix.name,
        "dropped": dropped,
    }
