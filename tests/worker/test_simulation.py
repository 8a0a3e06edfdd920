"""The demo's simulated cells are what its documents say they are."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest

from worker.simulation import (
    CELL_TYPES,
    MISSING_TYPE,
    QUERY_BATCHES,
    REFERENCE_BATCHES,
    DemoFiles,
    DemoSizes,
    write_demo,
)

SIZES = DemoSizes(
    reference_cells=600, query_cells=400, shared_genes=300, lost_genes=10, surplus_genes=20
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    return write_demo(tmp_path_factory.mktemp("demo"), seed=3, sizes=SIZES)


@pytest.fixture(scope="module")
def reference(files: DemoFiles) -> anndata.AnnData:
    return anndata.read_h5ad(files.reference)


@pytest.fixture(scope="module")
def query(files: DemoFiles) -> anndata.AnnData:
    return anndata.read_h5ad(files.query)


def test_counts_are_whole_and_sparse(reference, query) -> None:
    for cells in (reference, query):
        assert cells.X.format == "csr"
        assert cells.X.has_sorted_indices
        assert cells.X.data.min() >= 1
        assert np.array_equal(cells.X.data, np.floor(cells.X.data))


def test_sizes_types_and_batches(reference, query) -> None:
    assert (reference.n_obs, reference.n_vars) == (600, 300)
    assert (query.n_obs, query.n_vars) == (400, 300 - 10 + 20)
    assert tuple(reference.obs["batch"].cat.categories) == REFERENCE_BATCHES
    assert tuple(query.obs["batch"].cat.categories) == QUERY_BATCHES
    assert set(query.obs["cell_type"]) == set(CELL_TYPES)
    assert set(reference.obs["cell_type"]) == set(CELL_TYPES) - {MISSING_TYPE}
    assert reference.obs_names.is_unique
    assert not set(reference.obs_names) & set(query.obs_names)


def test_genes_are_shuffled_and_differ_in_part(reference, query) -> None:
    shared = reference.var_names.intersection(query.var_names)
    assert len(shared) == 290
    ours = reference.var.loc[shared, "gene_ids"]
    assert (ours == query.var.loc[shared, "gene_ids"]).all()
    positions = reference.var_names.get_indexer(shared)
    assert not (np.diff(reference.var_names.get_indexer(query.var_names[:50])) > 0).all()
    assert (np.diff(positions) > 0).all()


def test_gene_names_look_like_symbols_and_ensembl_but_are_no_real_ones(reference) -> None:
    assert reference.var_names.str.fullmatch(r"DEMO\d{4}").all()
    assert reference.var["gene_ids"].str.fullmatch(r"ENSG999\d{8}").all()


def test_counts_are_over_dispersed(reference) -> None:
    """Within one type of one batch, and with library sizes taken out, more than Poisson."""
    group = reference[
        (reference.obs["batch"] == "donor_A") & (reference.obs["cell_type"] == "B")
    ].X.toarray()
    scaled = group / group.sum(axis=1, keepdims=True) * np.median(group.sum(axis=1))
    mean, variance = scaled.mean(axis=0), scaled.var(axis=0)
    expressed = mean > 5
    assert np.median(variance[expressed] / mean[expressed]) > 2


def test_libraries_and_batches_differ(reference) -> None:
    totals = np.asarray(reference.X.sum(axis=1)).ravel()
    assert totals.max() > 3 * totals.min()
    first, second = (
        np.log1p(np.asarray(reference[reference.obs["batch"] == name].X.mean(axis=0)).ravel())
        for name in REFERENCE_BATCHES
    )
    assert np.abs(first - second).mean() > 0.2


def test_same_seed_same_counts_other_seed_others(tmp_path: Path, reference) -> None:
    again = anndata.read_h5ad(write_demo(tmp_path / "again", seed=3, sizes=SIZES).reference)
    other = anndata.read_h5ad(write_demo(tmp_path / "other", seed=4, sizes=SIZES).reference)
    assert (again.X != reference.X).nnz == 0
    assert (again.obs == reference.obs).all(axis=None)
    assert (other.X != reference.X).nnz > 0
