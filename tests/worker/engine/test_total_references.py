"""References of genes and proteins: built, mapped onto with and without proteins, and decoded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from app.problems import UnexportableMapping, UntrainableReference
from models_store.bundle import load_bundle
from models_store.recipe import RECIPES
from models_store.totalvi import TOTALVI
from tests.worker.engine.simulated import (
    N_GENES,
    Reference,
    Simulated,
    nothing,
    simulate,
    write_canonical,
)
from tests.worker.engine.test_mapping import order
from tests.worker.engine.test_regions import say_types
from worker.alignment import AlignedCounts
from worker.building import run_build
from worker.canonical import CanonicalQuery
from worker.covariates import design_query
from worker.exporting import _refuse_unknown_models
from worker.grafting import QuerySurgery
from worker.mapping import run_mapping
from worker.networks import draft_architecture
from worker.orders import BuildOrder
from worker.reference_cache import ReferenceCache

N_PROTEINS = 12
TYPES = ["Gene Expression"] * (N_GENES - N_PROTEINS) + ["Antibody Capture"] * N_PROTEINS


def cells(batches: dict[str, int], *, seed: int = 0, lacking: str = "") -> Simulated:
    """Simulated cells; one batch may lack half of the proteins."""
    made = simulate(batches, seed=seed)
    counts = made.counts.toarray()
    counts[(made.obs["batch"] == lacking).to_numpy(), -N_PROTEINS // 2 :] = 0
    return Simulated(sp.csr_matrix(counts), made.obs)


def build(folder: Path, made: Simulated, **architecture: Any) -> Reference:
    write_canonical(folder / "q", made)
    say_types(folder / "q", TYPES)
    (folder / "bundle").mkdir()
    options = {
        "kind": "TOTALVI",
        "batch_key": "batch",
        "labels_keys": ["cell_type"],
        "max_epochs": 2,
        "recipe_search": "off",
        "n_top_genes": None,
        "architecture": {"n_hidden": 16, "n_latent": 4, **architecture},
    }
    ordered = BuildOrder("total", 1, folder / "q", folder / "bundle", options, {}, 1, "cpu")
    run_build(ordered, nothing)
    manifest, cvae = load_bundle(folder / "bundle")
    return Reference(folder / "bundle", manifest, cvae)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def total(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return build(tmp_path_factory.mktemp("total"), cells({"a": 60, "b": 50}, lacking="b"))


def latents(reference: Reference, query: Simulated, folder: Path) -> pd.DataFrame:
    write_canonical(folder, query)
    say_types(folder, TYPES)
    query_here, manifest = CanonicalQuery.open(folder), reference.manifest
    design = design_query(query_here.obs(), manifest, batch_key=["batch"])
    counts = AlignedCounts(query_here, manifest.match_genes(query_here.genes()))
    surgery = QuerySurgery(manifest, reference.cvae, counts, design)
    projected = surgery.project(nothing)
    few = RECIPES["default"].model_copy(update={"max_epochs": 3})
    found = surgery.encode(projected, surgery.weights(surgery.fit(projected, few, nothing)))
    values = np.hstack([found.mean.numpy(), found.variance.numpy()])
    return pd.DataFrame(values, index=query.obs.index)


def test_what_is_built(total: Reference) -> None:
    manifest = total.manifest
    assert manifest.kind == "totalvi"
    assert manifest.genes.counts() == {"gene": 48, "region": 0, "protein": 12}
    a = manifest.architecture
    assert (a.n_layers, a.n_layers_decoder, a.decoder_dropout_rate) == (2, 1, 0.2)
    assert isinstance(total.cvae, TOTALVI)
    assert manifest.self_test is not None
    assert manifest.self_test.reference_reproduced
    assert manifest.provenance.held_out_elbo is not None


def test_alone_in_a_plate_and_without_proteins(total: Reference, tmp_path: Path) -> None:
    mine, others = cells({"mine": 40}, seed=1), cells({"x": 30, "y": 20}, seed=2, lacking="y")
    alone = latents(total, mine, tmp_path / "alone")
    plate = Simulated(
        sp.vstack([others.counts, mine.counts]).tocsr(), pd.concat([others.obs, mine.obs])
    )
    together = latents(total, plate, tmp_path / "plate")
    assert together.loc[alone.index].equals(alone)
    shuffled = plate.take(np.random.default_rng(0).permutation(len(plate.obs)))
    assert latents(total, shuffled, tmp_path / "shuffled").loc[alone.index].equals(alone)
    bare = mine.counts.toarray()
    bare[:, -N_PROTEINS:] = 0
    found = latents(total, dataclasses.replace(mine, counts=sp.csr_matrix(bare)), tmp_path / "bare")
    assert np.isfinite(found.to_numpy()).all()
    assert not found.equals(alone)


def test_proteins_may_vary_by_label(tmp_path: Path) -> None:
    made = build(tmp_path, cells({"a": 40, "b": 40}), protein_dispersion="protein-label")
    assert isinstance(made.cvae, TOTALVI)
    assert made.cvae.proteins.dispersion.reference.shape == (2, N_PROTEINS)
    mapped = order(made, tmp_path / "query", cells({"new": 40}, seed=3), labels_key="cell_type")
    say_types(mapped.canonical, TYPES)
    run_mapping(mapped, ReferenceCache(), nothing)
    told = json.loads((mapped.out / "provenance.json").read_text())
    assert told["labels"]["n_labelled"] == 40


def test_covariates_are_injected_deeply_or_there_is_no_such_model(total: Reference) -> None:
    first_layer = {"kind": "TOTALVI", "architecture": {"deeply_inject_covariates": False}}
    with pytest.raises(UntrainableReference, match="no option of kind TOTALVI"):
        draft_architecture(first_layer, "counts")
    shallow = {"deeply_inject_covariates": False}
    architecture = total.manifest.architecture.model_copy(update=shallow)
    manifest = total.manifest.model_copy(update={"architecture": architecture})
    _refuse_unknown_models(total.manifest)
    with pytest.raises(UnexportableMapping, match="no TOTALVI"):
        _refuse_unknown_models(manifest)


@pytest.mark.parametrize("bare", [False, True])
def test_proteins_are_decoded_for_cells_with_and_without_them(
    total: Reference, tmp_path: Path, bare: bool
) -> None:
    query = cells({"new": 40}, seed=3)
    if bare:
        counts = query.counts.toarray()
        counts[:, -N_PROTEINS:] = 0
        query = dataclasses.replace(query, counts=sp.csr_matrix(counts))
    asked: list[dict[str, Any]] = [
        {"output": "protein_foreground", "batch": "a"},
        {"output": "protein_probability"},
        {"output": "normalised_expression", "features": ["GENE0", "GENE3"]},
    ]
    ordered = order(total, tmp_path, query, outputs=asked, recipe="forward")
    say_types(ordered.canonical, TYPES)
    run_mapping(ordered, ReferenceCache(), nothing)
    files = sorted(ordered.out.glob("*.parquet"))
    tables = {path.name: pd.read_parquet(path) for path in files}
    proteins = [name for name, table in tables.items() if "GENE59" in table.columns]
    assert len(proteins) == 2
    for name in proteins:
        assert tables[name].shape == (40, N_PROTEINS)
        assert (tables[name].to_numpy() > 0).all()
        assert ("probability" not in name) or (tables[name].to_numpy() < 1).all()
