"""Which columns of var name genes."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from worker.intake.findings import Findings
from worker.intake.tables import Table

DISTINCT_SHARE = 0.5
"""A column of names differs from row to row; chromosome or feature type does not."""


def gene_columns(var: Table) -> dict[str, list[str]]:
    """String columns of var that could name genes, missing names as empty text."""
    return {
        column.name: pc.fill_null(text, "").to_pylist()
        for column in var.columns
        if (text := _as_text(column.values)) is not None and _looks_like_names(text)
    }


def _as_text(values: pa.Array) -> pa.Array | None:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values if pa.types.is_string(values.type) else None


def _looks_like_names(text: pa.Array) -> bool:
    return bool(pc.count_distinct(text).as_py() > DISTINCT_SHARE * len(text))


def warn_about_genes(var: Table, findings: Findings) -> None:
    repeated = len(var) - pc.count_distinct(var.index).as_py()
    if repeated:
        findings.warn(
            "repeated-genes",
            var.path,
            f"{repeated:,} gene names occur again; rows of one name are added up in a mapping.",
            "Nothing needs doing unless the repeats are different genes; then use Ensembl ids.",
        )


def as_json(var: Table, columns: dict[str, list[str]]) -> bytes:
    table: dict[str, Any] = {"index": var.index.to_pylist(), "columns": columns}
    return json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
