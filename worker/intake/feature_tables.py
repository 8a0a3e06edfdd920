"""Features as 10x Genomics names them, as a table of genes: by id, with symbols and types."""

from __future__ import annotations

import pyarrow as pa

from worker.intake.columns import Column
from worker.intake.findings import Findings
from worker.intake.tables import Table

GENE_EXPRESSION = "Gene Expression"
SYMBOLS, TYPES, GENOMES = "gene_symbols", "feature_types", "genome"
"""What the columns of var are called, as scanpy calls them where it has a name."""


def feature_table(
    path: str,
    ids: pa.Array,
    *,
    names: pa.Array | None,
    types: pa.Array | None,
    genomes: pa.Array | None,
    findings: Findings,
) -> Table:
    """The ids are the index: they are distinct, and symbols are not.

    Features of other types than genes (antibodies, guides) stay in the query, and are told of.
    """
    columns = [
        Column(name, values)
        for name, values in ((SYMBOLS, names), (TYPES, types), (GENOMES, genomes))
        if values is not None
    ]
    if types is not None:
        tell_other_types(path, types, findings)
    return Table(path, ids, None, columns)


def tell_other_types(path: str, types: pa.Array, findings: Findings) -> None:
    counted = types.value_counts().to_pylist()
    others = {each["values"]: each["counts"] for each in counted}
    others.pop(GENE_EXPRESSION, None)
    if not others:
        return
    listed = ", ".join(f"{number:,} {name!r}" for name, number in sorted(others.items())[:10])
    findings.tell(
        "other-features",
        path,
        f"{sum(others.values()):,} features are no genes: {listed}. They are kept and never "
        "matched with genes of a reference.",
        "Nothing needs doing.",
    )
