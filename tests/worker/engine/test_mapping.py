"""The pipeline from canonical query to result files, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from safetensors import safe_open

from app.problems import DamagedReference, InputKindMismatch, NoCells, NotFinite, TooFewGenes
from app.references import manifest_digest
from tests.worker.engine.simulated import (
    Reference,
    Simulated,
    build_reference,
    nothing,
    simulate,
    write_canonical,
)
from worker.mapping import run_mapping
from worker.orders import MapOrder
from worker.reference_cache import ReferenceCache

FILES = {
    "latent.parquet",
    "latent.csv",
    "latent.npy",
    "query.h5ad",
    "query_weights.safetensors",
    "provenance.json",
}


def order(reference: Reference, folder: Path, cells: Simulated, **options: Any) -> MapOrder:
    write_canonical(folder / "q", cells, kind=reference.manifest.input)
    (folder / "out").mkdir()
    return MapOrder(
        mapping_id="m",
        canonical=folder / "q",
        bundle=reference.folder,
        manifest_sha256=manifest_digest(reference.manifest.model_dump(mode="json")),
        out=folder / "out",
        options={"batch_key": ["batch"], "recipe": "default", **options},
        query_facts={"filename": "q.h5ad", "sha256": "0" * 64},
        threads=2,
        device="cpu",
    )


def test_every_result_file(recommended: Reference, tmp_path: Path) -> None:
    cells = simulate({"c": 60, "d": 50}, seed=3)
    counts = cells.counts
    counts.data[counts.indptr[7] : counts.indptr[8]] = 0
    counts.eliminate_zeros()
    heard: list[tuple[str, float]] = []
    ordered = order(recommended, tmp_path, cells)
    told = run_mapping(ordered, ReferenceCache(), lambda stage, share: heard.append((stage, share)))
    out = ordered.out
    assert {path.name for path in out.iterdir()} == FILES
    latent = np.load(out / "latent.npy")
    parquet = pd.read_parquet(out / "latent.parquet")
    csv = pd.read_csv(out / "latent.csv", index_col=0)
    assert latent.shape == (110, 4)
    assert list(parquet.index) == list(csv.index) == list(cells.obs.index)
    assert np.array_equal(parquet.to_numpy(), latent)
    assert np.allclose(csv.to_numpy(), latent, rtol=1e-6)
    annotated = anndata.read_h5ad(out / "query.h5ad")
    assert np.array_equal(annotated.obsm["X_latent"], latent)
    assert list(annotated.obs["cell_type"]) == list(cells.obs["cell_type"])
    assert annotated.obs["cellgraft_empty"].to_numpy().nonzero()[0].tolist() == [7]
    assert np.isfinite(latent).all()
    assert told["n_empty_cells"] == 1
    assert [stage for stage, _ in dict(heard).items()] == [
        "loading",
        "reading",
        "fitting",
        "encoding",
        "explaining",
        "writing",
    ]
    shares = [share for _, share in heard]
    assert shares == sorted(shares)


def test_provenance_is_enough_to_make_it_again(recommended: Reference, tmp_path: Path) -> None:
    ordered = order(recommended, tmp_path, simulate({"c": 60, "d": 50}, seed=3))
    run_mapping(ordered, ReferenceCache(), nothing)
    told = json.loads((ordered.out / "provenance.json").read_text())
    assert told["reference"]["files"] == dict(recommended.manifest.files)
    assert told["recipe"] == recommended.manifest.default_recipe.model_dump()
    assert set(told["seconds"]) >= {"loading", "reading", "fitting", "encoding", "explaining"}
    assert told["surgery"]["n_trainable_weights"] == 2 * 4 * 16
    for batch in told["surgery"]["batches"]:
        assert batch["elbo_after"] >= batch["elbo_before"]
        assert {"seed", "stop_reason", "shrinkage", "movement"} <= batch.keys()
    with safe_open(ordered.out / "query_weights.safetensors", "pt") as weights:
        assert weights.metadata() == {"reference": "tiny@1", "categories:batch": "c\nd"}


def test_the_same_order_gives_the_same_bytes(recommended: Reference, tmp_path: Path) -> None:
    cells = simulate({"c": 60}, seed=3)
    first, second = (order(recommended, tmp_path / name, cells) for name in ("one", "two"))
    for each in (first, second):
        run_mapping(each, ReferenceCache(), nothing)
    for name in FILES - {"provenance.json"}:
        assert (first.out / name).read_bytes() == (second.out / name).read_bytes(), name


def test_surgery_without_effect_is_said(tmp_path: Path) -> None:
    blind = build_reference(
        tmp_path / "r", simulate({"a": 60, "b": 60}), architecture={"encode_covariates": False}
    )
    ordered = order(blind, tmp_path, simulate({"c": 40}))
    told = run_mapping(ordered, ReferenceCache(), nothing)
    assert not told["has_effect"]
    assert told["movement"] == {"mean": 0.0, "median": 0.0, "max": 0.0}
    assert told["warnings"][0]["code"] == "surgery-has-no-effect"


def test_refusals(recommended: Reference, tmp_path: Path) -> None:
    cells = simulate({"c": 20})
    with pytest.raises(NoCells):
        run_mapping(
            order(recommended, tmp_path / "none", cells.take(np.arange(0))),
            ReferenceCache(),
            nothing,
        )
    strange = order(recommended, tmp_path / "strange", cells)
    genes = {"index": [f"zz{i}" for i in range(60)], "columns": {}}
    (strange.canonical / "genes.json").write_text(json.dumps(genes))
    with pytest.raises(TooFewGenes, match="zz0"):
        run_mapping(strange, ReferenceCache(), nothing)
    continuous = order(recommended, tmp_path / "continuous", cells)
    facts = json.loads((continuous.canonical / "canonical.json").read_text())
    (continuous.canonical / "canonical.json").write_text(
        json.dumps(facts | {"input": "continuous"})
    )
    with pytest.raises(InputKindMismatch):
        run_mapping(continuous, ReferenceCache(), nothing)


def test_a_changed_bundle_is_refused(tmp_path: Path) -> None:
    reference = build_reference(tmp_path / "r", simulate({"a": 60, "b": 60}))
    weights = reference.folder / "weights.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    with pytest.raises(DamagedReference, match=r"weights\.safetensors has changed"):
        run_mapping(order(reference, tmp_path, simulate({"c": 20})), ReferenceCache(), nothing)


def test_a_bundle_of_another_version_is_refused(recommended: Reference, tmp_path: Path) -> None:
    ordered = order(recommended, tmp_path, simulate({"c": 40}))
    meant = dataclasses.replace(ordered, manifest_sha256="0" * 64)
    references = ReferenceCache()
    for _ in range(2):  # once when it is loaded, once when it is warm
        with pytest.raises(DamagedReference, match="another version"):
            run_mapping(meant, references, nothing)
    run_mapping(ordered, references, nothing)


def test_numbers_that_are_not_finite_are_not_published(tmp_path: Path) -> None:
    continuous = {"architecture": {"likelihood": "normal", "log_variational": False}}
    made = build_reference(tmp_path / "r", simulate({"a": 60, "b": 60}), **continuous)
    cells = simulate({"c": 40})
    cells.counts.data[0] = 3e38
    ordered = order(made, tmp_path, cells)
    facts = json.loads((ordered.canonical / "canonical.json").read_text())
    (ordered.canonical / "canonical.json").write_text(json.dumps(facts | {"input": "continuous"}))
    with pytest.raises(NotFinite, match="not finite"):
        run_mapping(ordered, ReferenceCache(), nothing)
    assert list(ordered.out.iterdir()) == []


def test_doubts_about_batches_are_told(recommended: Reference, tmp_path: Path) -> None:
    cells = simulate({"c": 60, "d": 5})
    cells.obs["batch"] = pd.Categorical([None] * 3 + cells.obs["batch"].tolist()[3:])
    ordered = order(recommended, tmp_path, cells)
    told = run_mapping(ordered, ReferenceCache(), nothing)
    provenance = json.loads((ordered.out / "provenance.json").read_text())
    assert [each["code"] for each in told["warnings"]] == ["missing-batch", "small-batches"]
    assert provenance["warnings"] == told["warnings"]
    assert told["warnings"][0]["detail"].startswith("3 cells have no value in obs['batch']")
    assert "2 of 3 new batches" in told["warnings"][1]["detail"]
    assert "d (5), missing (3)" in told["warnings"][1]["detail"]


def test_a_column_of_the_users_keeps_its_name(recommended: Reference, tmp_path: Path) -> None:
    cells = simulate({"c": 40})
    cells.obs["cellgraft_batch"] = "mine"
    ordered = order(recommended, tmp_path, cells)
    run_mapping(ordered, ReferenceCache(), nothing)
    obs = anndata.read_h5ad(ordered.out / "query.h5ad").obs
    assert set(obs["cellgraft_batch"]) == {"mine"}
    assert set(obs["cellgraft_batch_1"]) == {"c"}
    provenance = json.loads((ordered.out / "provenance.json").read_text())
    assert provenance["obs_columns"]["cellgraft_batch"] == "cellgraft_batch_1"


def test_cells_whose_names_occur_again_get_unique_ones_beside(
    recommended: Reference, tmp_path: Path
) -> None:
    cells = simulate({"c": 60, "d": 50}, seed=3)
    names = list(cells.obs.index)
    names[1] = names[0]
    cells.obs.index = pd.Index(names)
    ordered = order(recommended, tmp_path, cells)
    table = pa.ipc.open_file(ordered.canonical / "obs.arrow").read_all()
    own = pa.array([*names[:1], "other", *names[2:]])
    metadata = {b"index_name": b"null", b"unique": b"true"}
    table = table.append_column("__unique__", own).replace_schema_metadata(metadata)
    with pa.ipc.new_file(ordered.canonical / "obs.arrow", table.schema) as out:
        out.write_table(table)
    run_mapping(ordered, ReferenceCache(), nothing)
    with pytest.warns(UserWarning, match="not unique"):
        annotated = anndata.read_h5ad(ordered.out / "query.h5ad")
    assert list(annotated.obs_names) == names
    assert list(annotated.obs["cellgraft_cell"]) == own.to_pylist()
    assert list(pd.read_parquet(ordered.out / "latent.parquet").index) == names
