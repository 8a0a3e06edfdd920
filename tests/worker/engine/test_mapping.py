"""The pipeline from canonical query to result files, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from app.problems import DamagedReference, InputKindMismatch, NoCells, TooFewGenes
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

FILES = {
    "latent.parquet",
    "latent.csv",
    "latent.npy",
    "query.h5ad",
    "query_weights.safetensors",
    "provenance.json",
}


def order(reference: Reference, folder: Path, cells: Simulated, **options: Any) -> MapOrder:
    write_canonical(folder / "q", cells)
    (folder / "out").mkdir()
    return MapOrder(
        mapping_id="m",
        canonical=folder / "q",
        bundle=reference.folder,
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
    told = run_mapping(ordered, lambda stage, share: heard.append((stage, share)))
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
        "writing",
    ]
    shares = [share for _, share in heard]
    assert shares == sorted(shares)


def test_provenance_is_enough_to_make_it_again(recommended: Reference, tmp_path: Path) -> None:
    ordered = order(recommended, tmp_path, simulate({"c": 60, "d": 50}, seed=3))
    run_mapping(ordered, nothing)
    told = json.loads((ordered.out / "provenance.json").read_text())
    assert told["reference"]["files"] == dict(recommended.manifest.files)
    assert told["recipe"] == recommended.manifest.default_recipe.model_dump()
    assert set(told["seconds"]) >= {"loading", "reading", "fitting", "encoding"}
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
        run_mapping(each, nothing)
    for name in FILES - {"provenance.json"}:
        assert (first.out / name).read_bytes() == (second.out / name).read_bytes(), name


def test_surgery_without_effect_is_said(tmp_path: Path) -> None:
    blind = build_reference(
        tmp_path / "r", simulate({"a": 60, "b": 60}), architecture={"encode_covariates": False}
    )
    ordered = order(blind, tmp_path, simulate({"c": 40}))
    told = run_mapping(ordered, nothing)
    assert not told["has_effect"]
    assert told["movement"] == {"mean": 0.0, "median": 0.0, "max": 0.0}
    assert told["warnings"][0]["code"] == "surgery-has-no-effect"


def test_refusals(recommended: Reference, tmp_path: Path) -> None:
    cells = simulate({"c": 20})
    with pytest.raises(NoCells):
        run_mapping(order(recommended, tmp_path / "none", cells.take(np.arange(0))), nothing)
    strange = order(recommended, tmp_path / "strange", cells)
    genes = {"index": [f"zz{i}" for i in range(60)], "columns": {}}
    (strange.canonical / "genes.json").write_text(json.dumps(genes))
    with pytest.raises(TooFewGenes, match="zz0"):
        run_mapping(strange, nothing)
    continuous = order(recommended, tmp_path / "continuous", cells)
    facts = json.loads((continuous.canonical / "canonical.json").read_text())
    (continuous.canonical / "canonical.json").write_text(
        json.dumps(facts | {"input": "continuous"})
    )
    with pytest.raises(InputKindMismatch):
        run_mapping(continuous, nothing)


def test_a_changed_bundle_is_refused(tmp_path: Path) -> None:
    reference = build_reference(tmp_path / "r", simulate({"a": 60, "b": 60}))
    weights = reference.folder / "weights.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    with pytest.raises(DamagedReference, match=r"weights\.safetensors has changed"):
        run_mapping(order(reference, tmp_path, simulate({"c": 20})), nothing)
