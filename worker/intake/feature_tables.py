"""Features as 10x Genomics names them, as a table of genes: by id, with symbols and types."""

from __future__ import annotations

import pyarrow as pa

from worker.intake.columns import Column
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
) -> Table:
    """The ids are the index: they are distinct, and symbols are not."""
    columns = [
        Column(name, values)
        for name, values in ((SYMBOLS, names), (TYPES, types), (GENOMES, genomes))
        if values is not None
    ]
    return Table(path, ids, None, columns)
