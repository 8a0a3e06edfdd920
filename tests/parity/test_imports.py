"""Models that scvi-tools 1.4.2 saved, in every option, imported: their cells lie where they lay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from models_store.bundle import CELLS_FILE, load_bundle
from models_store.scanvi import SCANVI
from models_store.scvi_weights import KINDS
from worker.imports.order import CellOptions
from worker.imports.reference import Imported, run_import

from .configurations import CONFIGURATIONS
from .importing import import_order
from .oracle import LABELS, UNLABELLED, _train_reference

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

LIMIT = 1e-5
SAMPLING_LIMIT = 0.04
"""scvi-tools averages 5,000 draws of a logistic-normal latent, other ones than we do."""


def import_save(folder: Path, scratch: Path, **cells: Any) -> tuple[Imported, pd.DataFrame]:
    order = import_order(folder, scratch, CellOptions(**cells))
    imported = run_import(order, lambda: 1, lambda _stage, _share: None)
    return imported, pd.read_parquet(order.out / CELLS_FILE)


def columns(table: pd.DataFrame, what: str) -> np.ndarray:
    return table[[name for name in table if name.startswith(f"{what}_")]].to_numpy()


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize(
    "name", [name for name, c in CONFIGURATIONS.items() if c.kind in KINDS.values()]
)
def test_an_imported_model(name: str, tmp_path: Path) -> None:
    configuration = CONFIGURATIONS[name]
    a = configuration.architecture
    model = _train_reference(configuration)
    model.save(tmp_path / "save", save_anndata=True)
    mean, variance = model.get_latent_representation(return_dist=True)
    imported, table = import_save(tmp_path / "save", tmp_path / "work")
    manifest = imported.manifest
    assert manifest.kind == configuration.kind
    # What has no effect on a network is not said of it.
    assert manifest.architecture == a
    assert manifest.batch.categories == tuple(sorted(configuration.reference_batches))
    assert [c.key for c in manifest.extra_covariates] == list(configuration.extra)
    assert manifest.self_test is not None
    assert manifest.self_test.reference_reproduced
    assert error(columns(table, "variance"), variance) < LIMIT
    if a.latent_distribution == "normal":
        assert error(columns(table, "latent"), mean) < LIMIT
    else:
        assert error(columns(table, "latent"), model.get_latent_representation()) < SAMPLING_LIMIT
    if configuration.kind == "scanvi":
        assert manifest.labels[0].categories == LABELS
        assert manifest.unlabeled_category == UNLABELLED
        _, network = load_bundle(tmp_path / "work/bundle")
        assert isinstance(network, SCANVI)
        ours = network.label_probabilities(torch.from_numpy(columns(table, "latent").copy()))
        assert error(ours.numpy(), model.predict(soft=True).to_numpy()) < LIMIT


@pytest.mark.parametrize("name", ["recommended", "scANVI, recommended"])
def test_minified_data(name: str, tmp_path: Path) -> None:
    if name not in CONFIGURATIONS:
        name = next(each for each in CONFIGURATIONS if CONFIGURATIONS[each].kind == "scanvi")
    model = _train_reference(CONFIGURATIONS[name])
    kind = "scanvi" if CONFIGURATIONS[name].kind == "scanvi" else "scvi"
    mean, variance = model.get_latent_representation(return_dist=True)
    model.adata.obsm[f"{kind}_latent_qzm"] = mean
    model.adata.obsm[f"{kind}_latent_qzv"] = variance
    model.minify_adata(
        use_latent_qzm_key=f"{kind}_latent_qzm", use_latent_qzv_key=f"{kind}_latent_qzv"
    )
    model.save(tmp_path / "save", save_anndata=True)
    imported, table = import_save(tmp_path / "save", tmp_path / "work")
    assert np.array_equal(columns(table, "latent"), mean)
    assert np.array_equal(columns(table, "variance"), variance)
    assert imported.manifest.self_test is not None
    assert imported.manifest.self_test.reference_reproduced is None


def test_a_scanvi_that_met_no_unlabelled_cell_has_its_category_for_a_label(tmp_path: Path) -> None:
    """surgery.md 0.9: scvi-tools then counts one label more."""
    import scvi

    configuration = next(c for c in CONFIGURATIONS.values() if c.kind == "scanvi")
    model = _train_reference(configuration)
    adata = model.adata[(model.adata.obs["cell_type"] != UNLABELLED).to_numpy()].copy()
    adata = adata[(adata.obs["cell_type"] != LABELS[0]).to_numpy()].copy()
    query = scvi.model.SCANVI.load_query_data(adata, model, accelerator="cpu")
    query.is_trained_ = True
    query.save(tmp_path / "save")
    order = import_order(tmp_path / "save", tmp_path / "work")
    manifest = run_import(order, lambda: 1, lambda _stage, _share: None).manifest
    predicted = query.predict(soft=True)
    assert list(manifest.labels[0].categories)[: len(predicted.columns)] == list(predicted.columns)
