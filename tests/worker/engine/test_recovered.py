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
from scipy.spatial import cKDTree

from app.references import manifest_digest
from tests.worker.engine.simulated import (
    Reference,
    Simulated,
    build_reference,
    nothing,
    simulate,
)
from tests.worker.engine.tissues import joined, tissue
from tests.worker.intake.conftest import check_here
from tests.worker.intake.transformed import log_normalised, soup
from worker.mapping import run_mapping
from worker.orders import MapOrder
from worker.reference_cache import ReferenceCache


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


def types(n_cells: int, seed: int) -> Simulated:
    return tissue("lung", n_cells, seed=seed, depth=2000, n_types=4)


@pytest.fixture(scope="module")
def separating(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A reference trained until it tells four types apart: else labels are a matter of chance."""
    return build_reference(
        tmp_path_factory.mktemp("separating"),
        joined(types(300, 0), types(300, 1)),
        max_epochs=150,
        architecture={"n_hidden": 32, "n_latent": 6},
    )


def labels_of(reference: Reference, results: Path) -> np.ndarray:
    """Of each cell, what most of its 15 nearest cells of the reference are."""
    cells = pd.read_parquet(reference.folder / "cells.parquet")
    latent = cells[[name for name in cells if name.startswith("latent_")]].to_numpy()
    _, nearest = cKDTree(latent).query(np.load(results / "latent.npy"), 15)
    names, codes = np.unique(cells["cell_type"].astype(str), return_inverse=True)
    votes = (codes[nearest][..., None] == np.arange(len(names))).sum(axis=1)
    return np.asarray(names[votes.argmax(axis=1)])


@pytest.mark.parametrize("option", ["as-is", "round"])
def test_labels_of_corrected_counts_are_those_of_the_counts(
    option: str, separating: Reference, tmp_path: Path
) -> None:
    cells = types(400, 5)
    counts = cells.counts.toarray()
    plain = mapped(separating, tmp_path / "plain", as_file(cells, counts))
    corrected = as_file(cells, soup(counts, 0.05))
    results = mapped(separating, tmp_path / "corrected", corrected, counts=option)
    expected, found = labels_of(separating, plain), labels_of(separating, results)
    assert (expected == cells.obs["cell_type"]).mean() >= 0.95
    assert (expected == found).mean() >= 0.98
    told = json.loads((results / "provenance.json").read_text())["query"]
    assert told["counts_class"] == "count-like"
    assert told["rounded"] == (option == "round")
