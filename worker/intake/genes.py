"""Which columns of var name genes."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from models_store.gene_columns import QueryGenes
from worker.intake.feature_types import as_text, feature_types, tell_other_features
from worker.intake.findings import Findings
from worker.intake.identifiers import describe_identifiers
from worker.intake.tables import Table
from worker.names import free_name

DISTINCT_SHARE = 0.5
"""A column of names differs from row to row; chromosome or feature type does not."""


INDEX = "index"
"""What the row names of var are called among the columns; no column may take that name."""


def gene_columns(var: Table, findings: Findings) -> dict[str, list[str]]:
    """String columns of var that could name genes, missing names as empty text."""
    taken = {INDEX, *(column.name for column in var.columns)}
    found = {}
    for column in var.columns:
        text = as_text(column.values)
        if text is None or not _looks_like_names(text):
            continue
        name = column.name
        if name == INDEX:
            name = free_name(INDEX, taken)
            _tell_rename(var, name, findings)
        found[name] = pc.fill_null(text, "").to_pylist()
    return found


def _tell_rename(var: Table, name: str, findings: Findings) -> None:
    findings.tell(
        "column-renamed",
        f"{var.path}/{INDEX}",
        f"The column {INDEX!r} of {var.path} is called {name!r} here, because {INDEX!r} stands for "
        "the row names.",
        "Nothing needs doing: its names are matched like those of every other column.",
    )


def _looks_like_names(text: pa.Array) -> bool:
    return bool(pc.count_distinct(text).as_py() > DISTINCT_SHARE * len(text))


def warn_about_genes(var: Table, findings: Findings) -> None:
    repeated = len(var) - pc.count_distinct(var.index).as_py()
    if repeated:
        findings.tell(
            "repeated-genes",
            var.path,
            f"{repeated:,} gene names occur again; rows of one name are added up in a mapping.",
            "Nothing needs doing unless the repeats are different genes; then use Ensembl ids.",
        )


def describe(var: Table, columns: dict[str, list[str]], findings: Findings) -> dict[str, Any]:
    """What the report says of the genes; rows that are none are told of."""
    types = feature_types(var)
    tell_other_features(var, types, findings)
    index = var.index.to_pylist()
    genes = QueryGenes.of({INDEX: index, **columns}, types)
    named = describe_identifiers(genes, var.path, findings)
    return {"example": index[:5], "columns": [INDEX, *columns], **named}


def as_json(var: Table, columns: dict[str, list[str]]) -> bytes:
    """`feature_types` is there where the file says what each of its features is."""
    table: dict[str, Any] = {INDEX: var.index.to_pylist(), "columns": columns}
    if (types := feature_types(var)) is not None:
        table["feature_types"] = types
    return json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
