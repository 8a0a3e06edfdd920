"""MULTIVI with size factors of genes and depths of regions that its cells bring along."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.problems import UnknownCovariate
from models_store.bundle import load_bundle
from models_store.multivi import MULTIVI
from tests.worker.engine.simulated import N_GENES, Reference, Simulated, nothing, simulate
from tests.worker.engine.test_mapping import order
from tests.worker.engine.test_regions import built, say_types
from worker.mapping import run_mapping
from worker.orders import MapOrder
from worker.reference_cache import ReferenceCache

TYPES = ["Gene Expression"] * 30 + ["Peaks"] * (N_GENES - 30)
GIVEN = {"size_factor_key": "size", "depth_key": "depth"}


def sized(cells: Simulated) -> Simulated:
    """With depths; the first cell lacks regions, the second genes."""
    counts = cells.counts.tolil()
    counts[0, 30:] = 0
    counts[1, :30] = 0
    depth = np.linspace(0, 1, len(cells.obs))
    size = cells.obs["size"].to_numpy().copy()
    size[1] = 0
    return Simulated(counts.tocsr(), cells.obs.assign(depth=depth, size=size))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("sized")
    cells = sized(simulate({"a": 50, "b": 50}))
    built(folder, TYPES, cells=cells, kind="MULTIVI", **GIVEN, max_epochs=4)
    return Reference(folder / "bundle", *load_bundle(folder / "bundle"))


def ordered(reference: Reference, folder: Path, cells: Simulated, **options: Any) -> MapOrder:
    made = order(reference, folder, cells, force=True, **options)
    say_types(made.canonical, TYPES)
    return made


def latent_of(reference: Reference, folder: Path, cells: Simulated, **options: Any) -> pd.DataFrame:
    made = ordered(reference, folder, cells, **options)
    run_mapping(made, ReferenceCache(), nothing)
    return pd.read_parquet(made.out / "latent.parquet")


def test_a_reference_is_built_without_encoders_of_sizes(reference: Reference) -> None:
    manifest, network = reference.manifest, reference.cvae
    assert (manifest.size_factor_key, manifest.depth_key) == ("size", "depth")
    assert (manifest.architecture.library, manifest.architecture.depth_factor) == (
        "size_factor",
        True,
    )
    assert isinstance(network, MULTIVI)
    assert network.library_encoder is None
    assert network.depth_encoder is None
    assert manifest.self_test is not None
    assert manifest.self_test.reference_reproduced


def test_a_fit_learns_from_what_is_given(reference: Reference, tmp_path: Path) -> None:
    cells = sized(simulate({"c": 60}, seed=3))
    found = latent_of(reference, tmp_path / "one", cells, recipe="converged")
    again = latent_of(reference, tmp_path / "two", cells, recipe="converged")
    assert np.isfinite(found.to_numpy()).all()
    assert found.equals(again)
    order_ = np.random.default_rng(1).permutation(60)
    permuted = latent_of(reference, tmp_path / "three", cells.take(order_), recipe="converged")
    assert permuted.loc[found.index].equals(found)
    for at, key in enumerate(("size", "depth")):
        other = dataclasses.replace(cells, obs=cells.obs.assign(**{key: cells.obs[key] * 0.5}))
        moved = latent_of(reference, tmp_path / f"other{at}", other, recipe="converged")
        assert not moved.equals(found)


@pytest.mark.parametrize("key", ["size", "depth"])
def test_a_query_without_them_is_refused(reference: Reference, tmp_path: Path, key: str) -> None:
    cells = sized(simulate({"c": 30}, seed=3))
    cells = dataclasses.replace(cells, obs=cells.obs.drop(columns=key))
    with pytest.raises(UnknownCovariate, match=key):
        run_mapping(ordered(reference, tmp_path, cells), ReferenceCache(), nothing)
