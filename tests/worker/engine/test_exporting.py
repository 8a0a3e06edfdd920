"""scvi-tools loads an exported mapping as its query model, and sees the same latents."""

from __future__ import annotations

import dataclasses
import pickle
import pickletools
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from app.problems import UnexportableMapping
from models_store.manifest import Architecture, Manifest
from tests.worker.engine.simulated import (
    Reference,
    Simulated,
    build_reference,
    nothing,
    simulate,
)
from tests.worker.engine.test_mapping import order
from worker.canonical import CanonicalQuery
from worker.exporting import ExportedModel, _refuse_unknown_models, export_mapping
from worker.mapping import run_mapping
from worker.orders import MapOrder
from worker.reference_cache import ReferenceCache

BATCHES = {"new-c": 60, "new-d": 50, "ref-a": 40}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few epochs move the query's rows away from where they start."""
    recipe = Manifest.recipe
    few = {"max_epochs": 3, "learning_rate": 0.1}
    monkeypatch.setattr(Manifest, "recipe", lambda *given: recipe(*given).model_copy(update=few))


def query(seed: int = 5) -> Simulated:
    cells = simulate(BATCHES, seed=seed)
    cells.obs.loc[cells.obs.index[:20], "plate"] = "p9"
    return cells


def mapping(reference: Reference, folder: Path, **options: Any) -> MapOrder:
    """A mapping that has ended."""
    manifest = reference.manifest
    looks = manifest.architecture.dispersion == "gene-label" or manifest.kind == "scanvi"
    options = {"labels_key": "cell_type" if looks else None, "reuse_batches": True} | options
    mapped = order(reference, folder, query(), **options)
    run_mapping(mapped, ReferenceCache(), nothing)
    return mapped


def exported(reference: Reference, folder: Path, **options: Any) -> tuple[MapOrder, Path]:
    """A mapping, and the folder that it was exported to."""
    mapped = mapping(reference, folder, **options)
    return mapped, export(mapped, folder)


def export(mapped: MapOrder, folder: Path) -> Path:
    out = folder / "model"
    out.mkdir()
    export_mapping(dataclasses.replace(mapped, out=out), mapped.out)
    return out


def test_where_scvi_tools_has_the_class() -> None:
    scvi = pytest.importorskip("scvi")
    for kind in ("SCVI", "SCANVI", "TOTALVI", "PEAKVI", "POISSONVI", "MULTIVI"):
        made = ExportedModel(kind, 1, 0, "batch")
        assert hasattr(getattr(scvi, made.module), kind)


def load(folder: Path) -> Any:
    import scvi

    names = set(_names(folder))
    known = [
        (scvi.external.POISSONVI, "POISSONVI"),
        (scvi.model.PEAKVI, "PEAKVI"),
        (scvi.model.SCANVI, "SCANVI"),
    ]
    kind = next((kind for kind, name in known if name in names), scvi.model.SCVI)
    return kind.load(str(folder), accelerator="cpu")


def _names(folder: Path) -> list[str]:
    """All texts in the pickle."""
    with ZipFile(folder / "model.pt") as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        ops = pickletools.genops(archive.read(name))
        return [argument for _, argument, _ in ops if isinstance(argument, str)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("short")
def test_scvi_tools_sees_the_same_latents(reference: Reference, tmp_path: Path) -> None:
    mapped, folder = exported(reference, tmp_path)
    model = load(folder)
    mine = np.load(mapped.out / "latent.npy")
    if reference.manifest.architecture.latent_distribution == "ln":
        # Theirs is a mean of random draws; the posterior that both draw from is compared.
        theirs = model.get_latent_representation(return_dist=True)[0]
        mine = posterior_means(mapped)
    else:
        theirs = model.get_latent_representation()
    assert np.abs(theirs - mine).max() <= 1e-5 * np.abs(mine).max()
    if reference.manifest.kind == "scanvi":
        probabilities = pd.read_parquet(mapped.out / "labels.parquet")
        told = model.predict(soft=True)
        for label in told:
            ours = probabilities[f"probability_{label}"]
            assert np.abs(told[label].to_numpy() - ours.to_numpy()).max() < 1e-5


def posterior_means(mapped: MapOrder) -> np.ndarray:
    """Of every cell, before they become a point of the simplex."""
    import torch
    from safetensors.torch import load_file

    from models_store.surgery import graft, load_query_weights
    from worker.matched_query import match_query

    matched = match_query(mapped, ReferenceCache())
    grafted = graft(matched.surgery.cvae, matched.surgery.design.n_new)
    load_query_weights(grafted, load_file(mapped.out / "query_weights.safetensors"))
    (part,) = matched.surgery.project(nothing).parts
    codes = tuple(torch.from_numpy(code) for code in matched.surgery.design.codes)
    with torch.no_grad():
        found: np.ndarray = grafted.posterior(part.projections.block(0, part.stop), codes).m.numpy()
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("short")
def test_the_cells_are_the_querys_and_can_be_trained_on(
    recommended: Reference, tmp_path: Path
) -> None:
    _, folder = exported(recommended, tmp_path)
    cells = anndata.read_h5ad(folder / "adata.h5ad")
    assert (query().counts != cells.X).nnz == 0
    assert list(cells.var_names) == list(recommended.manifest.genes.ids)
    assert list(cells.obs["cell_type"]) == list(query().obs["cell_type"])
    assert set(cells.obs["cellgraft_batch"]) == set(BATCHES)
    model = load(folder)
    assert model.summary_stats.n_batch == len(recommended.manifest.batch.categories) + 2
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False, logger=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("short")
def test_names_that_are_taken_are_left_alone(recommended: Reference, tmp_path: Path) -> None:
    cells = query()
    cells.obs["cellgraft_batch"] = "mine"
    mapped = order(recommended, tmp_path, cells)
    run_mapping(mapped, ReferenceCache(), nothing)
    out = tmp_path / "model"
    out.mkdir()
    made = export_mapping(dataclasses.replace(mapped, out=out), mapped.out)
    assert made.batch_key == "cellgraft_batch_1"
    assert set(anndata.read_h5ad(out / "adata.h5ad").obs["cellgraft_batch"]) == {"mine"}
    theirs = load(out).get_latent_representation()
    assert np.allclose(theirs, np.load(mapped.out / "latent.npy"), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("short")
def test_an_index_named_like_a_column_is_exported(
    recommended: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = order(recommended, tmp_path, query())
    run_mapping(mapped, ReferenceCache(), nothing)
    obs = CanonicalQuery.open(mapped.canonical).obs().rename_axis("plate")
    monkeypatch.setattr(CanonicalQuery, "obs", lambda self: obs.copy())
    out = tmp_path / "model"
    out.mkdir()
    export_mapping(dataclasses.replace(mapped, out=out), mapped.out)
    assert list(anndata.read_h5ad(out / "adata.h5ad").obs["plate"]) == list(obs["plate"])


def test_a_model_that_scvi_tools_has_not_is_refused(tmp_path: Path) -> None:
    labelled = {"kind": "SCANVI", "architecture": {"dispersion": "gene-label"}}
    cells = simulate({"ref-a": 90, "ref-b": 70})
    reference = build_reference(tmp_path / "reference", cells, **labelled)
    mapped = order(reference, tmp_path, query(), recipe="forward", labels_key="cell_type")
    run_mapping(mapped, ReferenceCache(), nothing)
    with pytest.raises(UnexportableMapping):
        export_mapping(mapped, mapped.out)


def test_a_penalty_that_scvi_tools_has_no_more_is_refused(recommended: Reference) -> None:
    """Of a save of before 0.18."""

    def of(penalty: str) -> Manifest:
        sizes = {"n_genes": 20, "n_regions": 10, "modality_penalty": penalty}
        a = Architecture.model_validate(sizes)
        return recommended.manifest.model_copy(update={"kind": "multivi", "architecture": a})

    _refuse_unknown_models(of("Jeffreys"))
    with pytest.raises(UnexportableMapping, match="exact Jeffreys"):
        _refuse_unknown_models(of("exact Jeffreys"))


@pytest.mark.usefixtures("short")
def test_an_export_reads_no_pickle(
    recommended: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before anything is refused: kernels that were compiled once are unpickled from their cache.
    mapped = mapping(recommended, tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was unpickled")

    refusing: list[tuple[Any, str]] = [(pickle, "load"), (pickle, "loads"), (torch, "load")]
    for module, name in refusing:
        monkeypatch.setattr(module, name, refuse)
    export(mapped, tmp_path)
