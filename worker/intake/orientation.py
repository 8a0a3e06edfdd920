"""Cells in the columns and genes in the rows: recognised by names, and by lengths."""

from __future__ import annotations

import re

import pyarrow as pa

from app.problems import Problem
from worker.intake.findings import located
from worker.intake.matrices import Matrix
from worker.intake.tables import Table

LOOKED_AT = 2_000
"""Names, spread over the table."""
MOST = 0.5
BARCODE = re.compile(r"(^|[^A-Za-z])[ACGT]{10,24}([^A-Za-z]|$)")
ENSEMBL = re.compile(r"^(\w+_)?ENS[A-Z]{0,4}G\d{6,}(\.\d+)?$")
PLACEHOLDERS = {
    "cells": re.compile(r"^cell[-_. ]?\d+$", re.IGNORECASE),
    "genes": re.compile(r"^gene[-_. ]?\d+$", re.IGNORECASE),
}
"""What simulations call them."""
WELL_KNOWN = frozenset(
    (
        *("ACTB", "GAPDH", "B2M", "MALAT1", "EEF1A1", "TPT1", "FTH1", "FTL", "TMSB4X", "TMSB10"),
        *("UBC", "PTMA", "VIM", "CD74", "PABPC1", "HSPA8", "RPL3", "RPL10", "RPL13", "RPLP0"),
        *("RPLP1", "RPS2", "RPS3", "RPS6", "RPS18", "RPS27", "MT-CO1", "MT-CO2", "MT-CO3"),
        *("MT-ND1", "MT-ND4", "MT-CYB", "MT-ATP6"),
    )
)
"""Genes of nearly every panel of a whole transcriptome: of man and, but for case, of mouse."""
ENOUGH_KNOWN = 3


def is_transposed(obs: Table, var: Table) -> bool:
    """Whether the names of cells are those of genes, or those of genes are barcodes of cells."""
    if _are_genes(obs.index) and not _are_genes(var.index):
        return True
    if _has_gene_ids(obs) and not _are_genes(var.index) and not _has_gene_ids(var):
        return True
    return _are_barcodes(var.index) and not _are_barcodes(obs.index)


def has_swapped_lengths(matrix: Matrix, obs: Table, var: Table) -> bool:
    """Whether the tables fit the matrix the other way round, and only so."""
    lengths = (len(obs), len(var))
    return lengths != matrix.shape and lengths == matrix.shape[::-1]


def transposition(matrix: Matrix, obs: Table, var: Table) -> Problem | None:
    """What is to be said of a transposed matrix; None where it is none."""
    swapped = has_swapped_lengths(matrix, obs, var)
    if not swapped and not is_transposed(obs, var):
        return None
    n_rows, n_columns = matrix.shape
    why = (
        f"it has {n_rows:,} rows and {n_columns:,} columns, for {len(obs):,} cells and "
        f"{len(var):,} genes"
        if swapped
        else f"its rows have the names of genes (such as {_example(obs)}) and its columns those of "
        f"cells (such as {_example(var)})"
    )
    return located(
        "transposed-matrix",
        matrix.path,
        f"`{matrix.name}` is transposed: {why}.",
        'Cells are rows: write it again as adata.T.write_h5ad("query.h5ad"), or in R as t(counts).',
    )


def _example(table: Table) -> str:
    return repr(table.index[0].as_py()) if len(table) else "none"


def _some(index: pa.Array) -> list[str]:
    step = max(1, len(index) // LOOKED_AT)
    names: list[str] = index.take(pa.array(range(0, len(index), step), pa.int64())).to_pylist()
    return names


def _are_barcodes(index: pa.Array) -> bool:
    names = _some(index)
    return _most(names, BARCODE) or _most(names, PLACEHOLDERS["cells"])


def _has_gene_ids(table: Table) -> bool:
    """Whether a column names another gene in each row; targets of a screen occur again."""
    texts = [each.values for each in table.columns if pa.types.is_string(each.values.type)]
    return any(
        len(text.drop_null().unique()) > MOST * len(text)
        and _most([name or "" for name in _some(text)], ENSEMBL)
        for text in texts
    )


def _most(names: list[str], pattern: re.Pattern[str]) -> bool:
    return sum(bool(pattern.search(name)) for name in names) > MOST * len(names)


def _are_genes(index: pa.Array) -> bool:
    names = _some(index)
    if _most(names, ENSEMBL) or _most(names, PLACEHOLDERS["genes"]):
        return True
    known = {name.upper().replace("MT.", "MT-") for name in index.to_pylist()} & WELL_KNOWN
    return len(known) >= ENOUGH_KNOWN
