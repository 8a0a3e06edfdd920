"""Labels: those that a query brings, those that SCANVI learns, and those that it predicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from app.problems import UnknownLabelsColumn, UntrainableReference
from models_store.bundle import (
    PROBE_FILE,
    InvalidBundle,
    load_bundle,
    read_manifest,
    self_test,
    verify_bundle,
)
from models_store.digests import file_sha256
from models_store.manifest import MANIFEST_FILE, Manifest
from models_store.scanvi import SCANVI
from tests.worker.engine.simulated import Reference, build_reference, nothing, simulate
from tests.worker.engine.test_mapping import FILES, order
from worker import predictions
from worker.covariates import design_query
from worker.mapping import run_mapping
from worker.predictions import write_labels
from worker.reference_cache import ReferenceCache

LABEL_FILES = {"labels.parquet", "labels.csv"}


@pytest.fixture
def manifest(labelled: Reference) -> Manifest:
    return labelled.manifest


def obs(**columns: list) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_the_unlabelled_category_is_no_label(labelled: Reference) -> None:
    manifest = labelled.manifest
    assert (manifest.kind, manifest.unlabeled_category) == ("scanvi", "not known")
    assert manifest.labels[0].categories == ("alpha", "beta")
    assert isinstance(labelled.cvae, SCANVI)
    assert labelled.cvae.classifier.output.out_features == 2
    assert "| predicts | cell_type, with 2 labels |" in (
        labelled.folder / "MODEL_CARD.md"
    ).read_text(encoding="utf-8")


def test_absent_values_are_unlabelled_without_a_category(tmp_path: Path) -> None:
    cells = simulate({"a": 60, "b": 60})
    cells.obs.loc[cells.obs.index[::5], "cell_type"] = None
    made = build_reference(tmp_path, cells, kind="scanvi")
    assert made.manifest.labels[0].categories == ("alpha", "beta")
    assert made.manifest.unlabeled_category is None


def test_training_learns_the_labels(labelled: Reference) -> None:
    accuracy = labelled.manifest.provenance.held_out_accuracy
    assert accuracy is not None
    assert accuracy > 0.8


def test_a_pretrained_scvi_gives_the_weights_that_labels_refine(tmp_path: Path) -> None:
    made = build_reference(tmp_path, simulate({"a": 60, "b": 60}), kind="SCANVI", pretraining=True)
    assert made.manifest.provenance.epochs == 2 + 2
    assert made.manifest.provenance.held_out_accuracy is not None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "SCANVI", "labels_keys": []}, "no column of labels"),
        ({"kind": "AUTOZI"}, "no kind of reference"),
        ({"unlabeled_category": "x"}, "SCVI learns no labels"),
        ({"pretraining": True}, "SCVI learns no labels"),
        ({"architecture": {"linear_classifier": True}}, "SCVI has no classifier"),
        (
            {"kind": "SCANVI", "architecture": {"latent_distribution": "ln"}},
            "SCANVI has a normal latent",
        ),
        ({"kind": "SCANVI", "unlabeled_category": "alpha"}, "has 1 labels"),
    ],
)
def test_builds_that_cannot_be(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UntrainableReference) as caught:
        build_reference(tmp_path, simulate({"a": 40, "b": 40}), **options)
    assert sentence in caught.value.detail


def test_known_labels_have_codes_and_others_are_told(manifest: Manifest) -> None:
    table = obs(t=["beta", "gamma", None, "not known", "gamma", "alpha"])
    design = design_query(table, manifest, batch_key=None, labels_key="t")
    assert list(design.labels) == [1, 2, 2, 2, 2, 0]
    assert design.given_labels is not None
    assert design.given_labels.facts() == {
        "key": "t",
        "n_labelled": 2,
        "n_unlabelled": 4,
        "unknown": {"gamma": 2},
    }
    told = [each for each in design.warnings if each["code"] == "unknown-labels"]
    assert len(told) == 1
    assert "2 cells" in told[0]["detail"]
    assert "gamma (2)" in told[0]["detail"]
    assert "alpha, beta" in told[0]["fix"]


def test_without_a_column_all_cells_are_unlabelled(manifest: Manifest) -> None:
    table = obs(s=["a"] * 30)
    design = design_query(table, manifest, batch_key=None, labels_key="t")
    assert list(design.labels) == [2] * 30
    assert [each["code"] for each in design.warnings] == ["no-labels-column"]
    unasked = design_query(table, manifest, batch_key=None)
    assert list(unasked.labels) == [2] * 30
    assert unasked.warnings == ()


def test_a_reference_without_use_for_labels_has_none(recommended: Reference) -> None:
    table, manifest = obs(t=["alpha"]), recommended.manifest
    assert design_query(table, manifest, batch_key=None, labels_key="t").labels is None
    with pytest.raises(UnknownLabelsColumn):
        design_query(table, manifest, batch_key=None, labels_key="u")


def test_every_file_of_labels(labelled: Reference, tmp_path: Path) -> None:
    cells = simulate({"c": 60, "d": 50}, seed=3)
    cells.obs["cellgraft_label"] = "mine"
    ordered = order(labelled, tmp_path, cells)
    told = run_mapping(ordered, ReferenceCache(), nothing)
    assert {path.name for path in ordered.out.iterdir()} == FILES | LABEL_FILES
    table = pd.read_parquet(ordered.out / "labels.parquet")
    csv = pd.read_csv(ordered.out / "labels.csv", index_col="cell")
    assert table.index.name == "cell"
    assert list(table.index) == list(csv.index) == list(cells.obs.index)
    assert list(table.columns) == ["label", "probability", "probability_alpha", "probability_beta"]
    of_each = table[["probability_alpha", "probability_beta"]].to_numpy()
    assert np.allclose(of_each.sum(axis=1), 1)
    assert np.array_equal(table["probability"], of_each.max(axis=1))
    assert list(table["label"]) == list(np.array(["alpha", "beta"])[of_each.argmax(axis=1)])
    assert np.allclose(csv.iloc[:, 1:].to_numpy(), table.iloc[:, 1:].to_numpy(), rtol=1e-6)
    assert list(csv["label"]) == list(table["label"])
    annotated = anndata.read_h5ad(ordered.out / "query.h5ad").obs
    assert set(annotated["cellgraft_label"]) == {"mine"}
    assert list(annotated["cellgraft_label_1"]) == list(table["label"])
    probability = annotated["cellgraft_label_probability"].to_numpy()
    assert np.array_equal(probability, table["probability"])
    assert told["labels"]["predicted"] == "cell_type"


def test_labels_of_other_cells_of_the_reference_s_batches_are_found(
    labelled: Reference, tmp_path: Path
) -> None:
    cells = simulate({"ref-a": 100, "ref-b": 100}, seed=3)
    ordered = order(labelled, tmp_path, cells, reuse_batches=True)
    run_mapping(ordered, ReferenceCache(), nothing)
    found = pd.read_parquet(ordered.out / "labels.parquet")["label"]
    assert (found == cells.obs["cell_type"]).mean() > 0.8


def test_probabilities_are_those_of_the_classifier_at_the_latent(
    labelled: Reference, tmp_path: Path
) -> None:
    ordered = order(labelled, tmp_path, simulate({"c": 60}))
    run_mapping(ordered, ReferenceCache(), nothing)
    latent = torch.from_numpy(np.load(ordered.out / "latent.npy"))
    assert isinstance(labelled.cvae, SCANVI)
    with torch.no_grad():
        expected = labelled.cvae.label_probabilities(latent).numpy()
    found = pd.read_parquet(ordered.out / "labels.parquet").iloc[:, 2:].to_numpy()
    assert np.allclose(found, expected, atol=1e-6)


def test_labels_that_the_query_brings_take_part_and_are_told(
    labelled: Reference, tmp_path: Path
) -> None:
    """Wrong labels pull, where nothing holds back: each cell is told to be of the other type."""
    cells = simulate({"c": 200}, seed=3)
    cells.obs["claimed"] = cells.obs["cell_type"].map({"alpha": "beta", "beta": "alpha"})
    found, told = {}, {}
    for key in (None, "claimed"):
        ordered = order(labelled, tmp_path / str(key), cells, labels_key=key, recipe="scvi-tools")
        told[key] = run_mapping(ordered, ReferenceCache(), nothing)
        found[key] = pd.read_parquet(ordered.out / "labels.parquet")
        provenance = json.loads((ordered.out / "provenance.json").read_text())
        assert provenance["labels"] == told[key]["labels"]
    claimed = cells.obs["claimed"]
    blind, told_so = ((found[key]["label"] == claimed).mean() for key in (None, "claimed"))
    assert told_so > blind
    assert told[None]["labels"]["n_labelled"] == 0
    assert (told["claimed"]["labels"]["key"], told["claimed"]["labels"]["n_labelled"]) == (
        "claimed",
        200,
    )


def test_the_same_order_gives_the_same_bytes(labelled: Reference, tmp_path: Path) -> None:
    cells = simulate({"c": 60}, seed=3)
    first, second = (order(labelled, tmp_path / name, cells) for name in ("one", "two"))
    for each in (first, second):
        run_mapping(each, ReferenceCache(), nothing)
    for name in (FILES | LABEL_FILES) - {"provenance.json"}:
        assert (first.out / name).read_bytes() == (second.out / name).read_bytes(), name


def test_files_written_in_many_groups_are_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "ROWS", 20)
    p = torch.softmax(torch.randn(53, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    names = [f"c{i}" for i in range(53)]
    labels = ("label", "probability", 'a "quoted", name')
    made = write_labels(tmp_path, names, labels, p.split(10))
    assert pq.ParquetFile(tmp_path / "labels.parquet").num_row_groups == 3
    for table in (
        pd.read_parquet(tmp_path / "labels.parquet"),
        pd.read_csv(tmp_path / "labels.csv", index_col="cell"),
    ):
        assert list(table.index) == names
        assert np.allclose(table.iloc[:, 2:].to_numpy(), p.numpy(), rtol=1e-6)
        assert list(table["label"]) == [labels[k] for k in p.argmax(1)]
        assert np.allclose(table["probability"], made.probability)
    assert np.array_equal(made.codes, p.argmax(1).numpy())


def test_a_query_without_cells_has_files_without_rows(tmp_path: Path) -> None:
    write_labels(tmp_path, [], ("a", "b"), iter([torch.zeros(0, 2)]))
    for table in (
        pd.read_parquet(tmp_path / "labels.parquet"),
        pd.read_csv(tmp_path / "labels.csv", index_col="cell"),
    ):
        assert list(table.columns) == ["label", "probability", "probability_a", "probability_b"]
        assert not len(table)


def _replace_probes(folder: Path, **changes: torch.Tensor | None) -> None:
    """Other probes, with the hash that they have."""
    probes = load_file(folder / PROBE_FILE) | {k: v for k, v in changes.items() if v is not None}
    for name in [name for name, value in changes.items() if value is None]:
        del probes[name]
    save_file(probes, folder / PROBE_FILE)
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["files"][PROBE_FILE] = file_sha256(folder / PROBE_FILE)
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


def test_the_self_test_covers_the_probabilities(tmp_path: Path) -> None:
    made = build_reference(tmp_path, simulate({"a": 40, "b": 40}), kind="SCANVI")
    assert verify_bundle(made.folder) == made.manifest
    stored = load_file(made.folder / PROBE_FILE)["probabilities"]
    assert torch.allclose(stored.sum(1), torch.ones(len(stored)))
    _replace_probes(made.folder, probabilities=stored + 0.01)
    with pytest.raises(InvalidBundle, match="the probabilities of the probe cells"):
        self_test(made.folder, reproduced=False, n_checked=0)
    _replace_probes(made.folder, probabilities=None)
    with pytest.raises(InvalidBundle, match="has not what a reference of this kind gives"):
        self_test(made.folder, reproduced=False, n_checked=0)


def test_weights_of_an_scvi_do_not_load_as_scanvi(tmp_path: Path) -> None:
    made = build_reference(tmp_path, simulate({"a": 40, "b": 40}))
    manifest = json.loads((made.folder / MANIFEST_FILE).read_text())
    (made.folder / MANIFEST_FILE).write_text(json.dumps(manifest | {"kind": "scanvi"}))
    assert read_manifest(made.folder).kind == "scanvi"
    with pytest.raises(InvalidBundle, match="do not fit"):
        load_bundle(made.folder)
