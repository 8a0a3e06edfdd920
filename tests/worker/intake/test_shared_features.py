"""Real files with proteins and regions, read by themselves; skipped where they are not at hand."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest

from models_store.gene_names import kind_of_name
from models_store.gene_panel import Genes
from models_store.panel_matching import match_panel
from worker.alignment import AlignedCounts

from .conftest import check_here
from .test_variants import SHARED

PROTEINS = {
    "citeseq_scvitools_200x2/pbmc_10k_200.h5ad": (16_727, 14),
    "citeseq_scvitools_200x2/pbmc_5k_200.h5ad": (16_581, 29),
    "citeseq_ctcl_500/citeseq_ctcl_500.h5ad": (19_521, 49),
    "pbmc_citeseq_10k5k/pbmc_citeseq_10k5k.h5ad": (4_000, 14),
}
MULTIOME = "multiome_a549_2641/multiome_a549_2641.h5ad"


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{name} is not at hand")
    return path


@pytest.mark.parametrize("name", PROTEINS)
def test_proteins_come_out_as_they_went_in(name: str, tmp_path: Path) -> None:
    path = shared(name)
    report, query = check_here(path, tmp_path / "canonical")
    n_genes, n_proteins = PROTEINS[name]
    assert report["features"] == {"gene": n_genes, "protein": n_proteins}
    first = anndata.read_h5ad(path)
    counts = query.rows(0, query.n_cells)
    assert (counts[:, n_genes:].toarray() == first.obsm["protein_expression"].to_numpy()).all()
    assert abs(counts[:, :n_genes] - first.X).nnz == 0
    # What a reference of genes sees is the same as without them.
    found = match_panel(query.genes(), Genes(ids=tuple(first.var_names)), [1 / n_genes] * n_genes)
    aligned = AlignedCounts(query, found).sparse(0, query.n_cells)
    assert (np.diff(aligned.indptr) == np.diff(first.X.indptr)).all()
    assert report["dropped"]["obsm"] == sorted(set(first.obsm) - {"protein_expression"})


def test_regions_are_told_by_a_column_of_modalities(tmp_path: Path) -> None:
    path = shared(MULTIOME)
    report, query = check_here(path, tmp_path / "canonical")
    assert report["features"] == {"gene": 1_185, "region": 52_761}
    names = query.gene_columns()["index"]
    regions = query.genes().rows_of("region")[:100]
    assert {kind_of_name(names[row]) for row in regions} == {"intervals"}
