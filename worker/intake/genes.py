"""Which columns of var name genes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from models_store.feature_kinds import kinds_of
from worker.intake.feature_types import as_text, feature_types
from worker.intake.findings import Findings
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
    # A protein may be called as its gene is.
    types = kinds_of(feature_types(var) or [""] * len(var))
    repeated = len(var) - len(set(zip(var.index.to_pylist(), types, strict=True)))
    if repeated:
        findings.tell(
            "repeated-genes",
            var.path,
            f"{repeated:,} gene names occur again; rows of one name are added up in a mapping.",
            "Nothing needs doing unless the repeats are different genes; then use Ensembl ids.",
        )
