"""Recovered counts map as the counts do, and corrected counts nearly so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from app.references import manifest_digest
from tests.worker.engine.simulated import (
    Reference,
    Simulated,
    build_reference,
    nothing,
    simulate,
)
from tests.worker.intake.conftest import check_here
from tests.worker.intake.transformed import log_normalised, soup
from worker.mapping import run_mapping
from worker.orders import MapOrder
from worker.reference_cache import ReferenceCache
from worker.simulation import DemoSizes, write_demo


def mapped(reference: Reference, folder: Path, file: anndata.AnnData, **request: Any) -> Path:
    """The folder of results, by way of a file and its check."""
    folder.mkdir()
    file.write_h5ad(folder / "query.h5ad")
    check_here(folder / "query.h5ad", folder / "canonical", **request)
    (folder / "out").mkdir()
    order = MapOrder(
        mapping_id="m",
        canonical=folder / "canonical",
        bundle=reference.folder,
        manifest_sha256=manifest_digest(reference.manifest.model_dump(mode="json")),
        out=folder / "out",
        options={"batch_key": ["batch"], "recipe": "default"},
        query_facts={"filename": "query.h5ad", "sha256": "0" * 64},
        threads=2,
        device="cpu",
    )
    run_mapping(order, ReferenceCache(), nothing)
    return folder / "out"


def as_file(cells: Simulated, values: np.ndarray) -> anndata.AnnData:
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(values.shape[1])])
    return anndata.AnnData(sp.csr_matrix(values), obs=cells.obs[["batch"]], var=var)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_recovered_counts_map_to_the_same_bytes(
    dtype: str, recommended: Reference, tmp_path: Path
) -> None:
    cells = simulate({"c": 80, "d": 60}, seed=9)
    counts = cells.counts.toarray()
    plain = mapped(recommended, tmp_path / "plain", as_file(cells, counts))
    logs = as_file(cells, log_normalised(counts, dtype=dtype))
    recovered = mapped(recommended, tmp_path / "recovered", logs)
    for name in ("latent.npy", "query_weights.safetensors"):
        assert (plain / name).read_bytes() == (recovered / name).read_bytes()
    told = json.loads((recovered / "provenance.json").read_text())["query"]
    assert told["counts_class"] == "log-normalised"
    assert told["recovered"]["base"] == "e"
    told = json.loads((plain / "provenance.json").read_text())["query"]
    assert (told["counts_class"], told["recovered"]) == ("counts", None)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reference, anndata.AnnData]:
    """A reference that predicts labels, and cells of other batches."""
    folder = tmp_path_factory.mktemp("demo")
    sizes = DemoSizes(reference_cells=600, query_cells=400, shared_genes=500, surplus_genes=20)
    files = write_demo(folder, sizes=sizes)
    reference, query = (anndata.read_h5ad(path) for path in (files.reference, files.query))
    genes = {gene: f"GENE{i}" for i, gene in enumerate(reference.var_names)}
    query.var_names = [genes.get(gene, gene) for gene in query.var_names]
    cells = Simulated(sp.csr_matrix(reference.X), reference.obs.astype(str))
    made = build_reference(folder / "built", cells, kind="SCANVI", max_epochs=12)
    return made, query


@pytest.mark.parametrize("option", ["as-is", "round"])
def test_labels_of_corrected_counts_are_those_of_the_counts(
    option: str, demo: tuple[Reference, anndata.AnnData], tmp_path: Path
) -> None:
    reference, query = demo
    plain = mapped(reference, tmp_path / "plain", query.copy())
    corrected = query.copy()
    corrected.X = sp.csr_matrix(soup(query.X.toarray(), 0.1))
    results = mapped(reference, tmp_path / "corrected", corrected, counts=option)
    expected, found = (
        pd.read_parquet(out / "labels.parquet")["predicted_label"] for out in (plain, results)
    )
    assert expected.nunique() >= 5
    assert (expected == found).mean() >= 0.98
    told = json.loads((results / "provenance.json").read_text())["query"]
    assert told["counts_class"] == "count-like"
    assert told["rounded"] == (option == "round")
