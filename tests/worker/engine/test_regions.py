"""References of peaks: what is built of a file, and a query of peaks through the ordinary path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from app.problems import TooFewGenes, UntrainableReference
from models_store.cells import Cells
from models_store.kinds import NETWORKS
from models_store.manifest import Architecture
from models_store.model_card import model_card
from models_store.peakvi import PEAKVI
from models_store.poissonvi import POISSONVI
from models_store.recipe import RECIPES
from tests.worker.engine.simulated import (
    N_GENES,
    Reference,
    Simulated,
    build_reference,
    nothing,
    simulate,
    write_canonical,
)
from tests.worker.engine.test_mapping import order
from worker.building import run_build
from worker.mapping import run_mapping
from worker.networks import draft_architecture
from worker.orders import BuildOrder
from worker.reference_cache import ReferenceCache
from worker.region_panel import choose_regions, region_table
from worker.training_cells import TrainingCells
from worker.training_plan import region_epochs
from worker.watch import Watch

KINDS = {"PEAKVI": PEAKVI, "POISSONVI": POISSONVI}
N_OF_GENES = 20
"""Of the simulated features of a mixed file; the others are peaks."""


def say_types(canonical: Path, types: list[str]) -> None:
    """As intake writes of a file that says what its features are."""
    table = json.loads((canonical / "genes.json").read_text())
    (canonical / "genes.json").write_text(json.dumps(table | {"feature_types": types}))


def built(
    folder: Path, types: list[str], *, cells: Simulated | None = None, **options: Any
) -> dict[str, Any]:
    write_canonical(folder / "q", cells or simulate({"a": 50, "b": 50}))
    say_types(folder / "q", types)
    (folder / "bundle").mkdir()
    wanted = {"batch_key": "batch", "max_epochs": 1, "recipe_search": "off"} | options
    ordered = BuildOrder("mixed", 1, folder / "q", folder / "bundle", wanted, {}, 1, "cpu")
    return run_build(ordered, nothing)


MIXED = ["Gene Expression"] * N_OF_GENES + ["Peaks"] * (N_GENES - N_OF_GENES)


@pytest.mark.parametrize("kind", KINDS)
def test_peaks_alone_are_taken_from_a_mixed_file(tmp_path: Path, kind: str) -> None:
    made = built(tmp_path, MIXED, kind=kind)
    assert made["genes"]["modalities"] == [{"kind": "region", "count": N_GENES - N_OF_GENES}]
    assert made["genes"]["ids"] == [f"GENE{i}" for i in range(N_OF_GENES, N_GENES)]
    a = made["architecture"]
    # The root of 40, and the root of that.
    assert (a["n_regions"], a["n_genes"], a["n_hidden"], a["n_latent"]) == (40, 0, 6, 2)
    assert a["dropout_rate"] == 0.1
    assert (a["likelihood"] == "poisson") == (kind == "POISSONVI")
    assert made["self_test"]["reference_reproduced"]
    assert sum(made["expected_expression"]) == pytest.approx(1)
    assert sum(made["informativeness"]) == pytest.approx(1)


def test_a_file_without_peaks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UntrainableReference, match="no feature a peak"):
        built(tmp_path, ["Gene Expression"] * N_GENES, kind="PEAKVI")


def test_a_file_of_genes_that_does_not_say_so_is_refused(tmp_path: Path) -> None:
    """Of features without a type all may be peaks, but not `HLA-A`."""
    write_canonical(tmp_path / "q", simulate({"a": 50, "b": 50}))
    table = json.loads((tmp_path / "q/genes.json").read_text())
    known = ["HLA-A", "HLA-B", "HLA-DRA", "LINC00115", "C1orf56", "AC004556.1"]
    table["index"][: len(known)] = known
    (tmp_path / "q/genes.json").write_text(json.dumps(table))
    (tmp_path / "bundle").mkdir()
    options = {"kind": "PEAKVI", "batch_key": "batch", "max_epochs": 1}
    ordered = BuildOrder("genes", 1, tmp_path / "q", tmp_path / "bundle", options, {}, 1, "cpu")
    with pytest.raises(UntrainableReference, match="genes by their names"):
        run_build(ordered, nothing)


@pytest.mark.parametrize("kind", ["SCVI", "SCANVI"])
def test_a_file_of_peaks_alone_makes_no_reference_of_genes(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UntrainableReference, match="no genes") as refused:
        built(tmp_path, ["Peaks"] * N_GENES, kind=kind, labels_keys=["cell_type"])
    assert "PEAKVI" in refused.value.fix


def test_the_most_open_regions() -> None:
    x = sp.csr_matrix(np.array([[9, 0, 1, 0], [0, 0, 1, 2], [0, 0, 3, 1]], dtype=np.float32))
    names = ["r0", "r1", "r2", "r3"]
    assert choose_regions(x, names, given=None, n_top=2).tolist() == [2, 3]
    assert choose_regions(x, names, given=None, n_top=None).tolist() == [0, 2, 3]
    assert choose_regions(x, names, given=["r3", "r0"], n_top=1).tolist() == [3, 0]
    with pytest.raises(TooFewGenes, match="1 of the 2 listed regions are not in the file"):
        choose_regions(x, names, given=["r3", "r9"], n_top=None)
    with pytest.raises(TooFewGenes, match="more than once"):
        region_table(["r1", "r1"])


@pytest.mark.parametrize(
    ("kind", "options", "complaint"),
    [
        ("PEAKVI", {"likelihood": "nb"}, "likelihood is no option of kind PEAKVI"),
        ("PEAKVI", {"dispersion": "gene", "library": "latent"}, "are no option of kind PEAKVI"),
        ("POISSONVI", {"batch_norm": "both"}, "no option of kind POISSONVI"),
        ("SCVI", {"model_depth": False}, "no option of kind SCVI"),
        ("PEAKVI", {"n_regions": 5}, "n_regions follows"),
        ("PEAKVI", {"n_hidden": "many"}, "n_hidden is 'many'"),
        ("VELOVI", {}, "PEAKVI"),
    ],
)
def test_options_of_other_kinds_are_refused(
    kind: str, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UntrainableReference) as refused:
        draft_architecture({"kind": kind, "architecture": options}, "counts")
    assert complaint in f"{refused.value.detail} {refused.value.fix}"


@pytest.fixture(scope="module", params=list(KINDS))
def of_peaks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    cells = simulate({"ref-a": 200, "ref-b": 200})
    folder = tmp_path_factory.mktemp("peaks")
    return build_reference(folder, cells, kind=request.param, max_epochs=12)


def test_a_query_of_peaks_is_mapped(of_peaks: Reference, tmp_path: Path) -> None:
    cells = simulate({"c": 60}, seed=3)
    ordered = order(of_peaks, tmp_path, cells)
    say_types(ordered.canonical, ["Peaks"] * N_GENES)
    told = run_mapping(ordered, ReferenceCache(), nothing)
    latent = pd.read_parquet(ordered.out / "latent.parquet").to_numpy()
    assert latent.shape == (60, 4)
    assert np.isfinite(latent).all()
    provenance = json.loads((ordered.out / "provenance.json").read_text())
    (batch,) = provenance["surgery"]["batches"]
    assert batch["elbo_after"] >= batch["elbo_before"]
    assert told["explained"]["explained"] is not None
    h5ad = pd.read_parquet(ordered.out / "latent.parquet")
    assert list(h5ad.index) == list(cells.obs.index)


def test_a_fit_is_judged_by_what_it_learns_from() -> None:
    """PEAKVI's KL weighs as little in the score as in the loss."""
    network = NETWORKS["peakvi"](
        Architecture(n_genes=0, n_regions=N_GENES, n_hidden=8, n_latent=3), n_categories=[2]
    ).eval()
    cells = Cells(torch.ones(40, N_GENES), (1,))
    with torch.no_grad():
        group = TrainingCells(cells, network.project(cells))
    watch = Watch.of(group, RECIPES["default"].model_copy(update={"held_out": 0.5}), seed=0)
    assert watch.held_out
    with torch.no_grad():
        expected = -watch._mean(network, lambda terms: terms.loss(1 / 128))
    scored = watch.score(network, RECIPES["default"])
    assert scored == pytest.approx(expected)
    assert watch.elbo(network) < scored


def test_genes_are_no_regions(of_peaks: Reference, tmp_path: Path) -> None:
    """A file that calls its features genes has no peak of the panel, however they are called."""
    ordered = order(of_peaks, tmp_path, simulate({"c": 30}))
    say_types(ordered.canonical, ["Gene Expression"] * N_GENES)
    with pytest.raises(TooFewGenes):
        run_mapping(ordered, ReferenceCache(), nothing)


def test_the_card_counts_regions(of_peaks: Reference) -> None:
    card = model_card(of_peaks.manifest)
    assert f"400 cells, {N_GENES} regions" in card
    assert " genes" not in card


def test_kinds_are_what_they_say(of_peaks: Reference) -> None:
    assert type(of_peaks.cvae) is KINDS[of_peaks.manifest.kind.upper()]


def test_accessibility_of_chosen_regions(of_peaks: Reference, tmp_path: Path) -> None:
    ids = of_peaks.manifest.genes.ids
    wanted = [{"output": "accessibility", "features": [ids[4], ids[1]]}]
    ordered = order(of_peaks, tmp_path, simulate({"c": 30}), outputs=wanted)
    run_mapping(ordered, ReferenceCache(), nothing)
    found = pd.read_parquet(ordered.out / "accessibility.parquet")
    assert list(found.columns) == [ids[4], ids[1]]
    assert found.shape == (30, 2)
    assert ((found >= 0) & (found <= 1)).all(axis=None)


@pytest.mark.parametrize(("n_cells", "epochs"), [(50, 200), (1_800, 40), (100_000, 20)])
def test_epochs_of_kinds_of_regions(n_cells: int, epochs: int) -> None:
    assert region_epochs(n_cells) == epochs
