"""A reference chooses its recipe when it is built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.problems import UnknownDesignColumn
from models_store.bundle import CARD_FILE, WEIGHTS_FILE
from models_store.manifest import Manifest
from models_store.recipe import CANDIDATES, RECIPES
from models_store.recipe_evidence import Fold, RecipeEvidence
from worker import recipe_search
from worker.alignment import AlignedCounts
from worker.canonical import CanonicalQuery
from worker.known_cells import KnownCells
from worker.recipe_search import plan_search
from worker.training_plan import TrainingPlan

from .simulated import Reference, build_reference, nothing, simulate

SIZES = {"a": 250, "b": 250, "c": 260}
EPOCHS = 6


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe_search, "FEWEST_CELLS", 700)
        brief = [each.model_copy(update={"max_epochs": 20}) for each in CANDIDATES[:2]]
        patch.setattr(recipe_search, "CANDIDATES", brief)
        yield


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("searched")
    return build_reference(
        folder,
        simulate(SIZES),
        max_epochs=EPOCHS,
        condition_key="plate",
        recipe_search="auto",
    )


def evidence(reference: Reference) -> RecipeEvidence:
    found = reference.manifest.recipe_evidence
    assert found is not None
    return found


def known(reference: Reference) -> KnownCells:
    query = CanonicalQuery.open(reference.folder.parent / "canonical")
    counts = AlignedCounts(query, reference.manifest.match_genes(query.gene_columns()))
    return KnownCells.of(
        reference.manifest, counts, query.obs(), batch_key="batch", condition_key="plate"
    )


def test_every_recipe_is_judged_on_whole_batches_and_on_few_of_their_cells(
    searched: Reference,
) -> None:
    first, second = evidence(searched).folds
    assert {first.batches, second.batches} < {("a",), ("b",), ("c",)}
    assert (first.n_cells + first.n_training_cells) == sum(SIZES.values())
    recipes = ["forward", "penalty 1.0", "penalty 0.3"]
    for fold in (first, second):
        assert [trial.recipe for trial in fold.trials] == 2 * recipes
        assert {trial.n_cells for trial in fold.trials} == {fold.n_cells, 100}
        forward, strong, _ = fold.trials[:3]
        assert forward.elbo == forward.elbo_before
        assert strong.elbo is not None
        assert strong.elbo_before is not None
        assert strong.elbo >= strong.elbo_before
        for trial in fold.trials:
            assert trial.macro_f1 is not None
            assert trial.retained_response is not None
            assert trial.mixing is not None
            assert 0 <= trial.macro_f1 <= 1
            assert 0 <= trial.mixing < 1.5


def test_the_choice_is_the_default_and_the_card_shows_why(searched: Reference) -> None:
    found = evidence(searched)
    wanted = RECIPES["default"] if found.chosen is None else found.candidates[found.chosen]
    assert searched.manifest.recipe("default") == wanted
    card = (searched.folder / CARD_FILE).read_text()
    assert f"Default recipe: {found.reason}" in card
    assert card.count("| penalty 1.0 |") == 4


def without_seconds(folds: tuple[Fold, ...]) -> list[dict[str, Any]]:
    return [
        fold.model_dump(exclude={"seconds": True, "trials": {"__all__": {"seconds"}}})
        for fold in folds
    ]


def test_the_seed_decides_every_figure(searched: Reference) -> None:
    plan = TrainingPlan("cpu", seed=0, max_epochs=EPOCHS)
    search = plan_search(searched.manifest, known(searched), "auto")
    one = replace(search, folds=search.folds[:1])  # as good as both, in half the time
    said: list[str] = []
    again = one.run(plan, lambda stage, _: said.append(stage), begin=0.3, end=0.9)
    assert without_seconds(again.folds) == without_seconds(evidence(searched).folds[:1])
    assert any(stage.startswith("judging recipes, about ") for stage in said)


def test_the_network_is_the_same_without_a_search(searched: Reference, tmp_path: Path) -> None:
    plain = build_reference(tmp_path, simulate(SIZES), max_epochs=EPOCHS, recipe_search="off")
    assert plain.manifest.files[WEIGHTS_FILE] == searched.manifest.files[WEIGHTS_FILE]
    assert plain.manifest.default_recipe == RECIPES["default"]
    assert evidence(plain).reason == "The release's, without a search: it was turned off."


def test_a_fold_of_scanvi_never_saw_the_labels_of_its_batches(tmp_path: Path) -> None:
    """Only `a` has gamma, and no label of b is told: neither can be found, both can be mapped."""
    cells = simulate(SIZES)
    labels, batch = cells.obs["cell_type"].to_numpy(dtype=object), cells.obs["batch"].to_numpy()
    labels[np.flatnonzero(batch == "a")[:20]] = "gamma"
    labels[batch == "b"] = "unknown"
    cells.obs["cell_type"] = labels
    made = build_reference(
        tmp_path,
        cells,
        kind="SCANVI",
        unlabeled_category="unknown",
        max_epochs=3,
        recipe_search="auto",
    )
    by_batch = {fold.batches[0]: fold.trials for fold in evidence(made).folds}
    assert set(by_batch) == {"a", "c"}
    assert all(trial.macro_f1 is not None for trial in (*by_batch["a"], *by_batch["c"]))
    assert made.manifest.labels[0].categories == ("alpha", "beta", "gamma")


def against(manifest: Manifest, cells: KnownCells | None, wanted: str = "auto") -> str:
    search = plan_search(manifest, cells, wanted)
    assert (search.folds, search.begin) == ((), 1.0)
    return search.run(TrainingPlan("cpu"), nothing, begin=0.1, end=0.2).reason


def test_there_is_no_search_where_it_would_say_nothing(
    searched: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, cells = searched.manifest, known(searched)
    blind = manifest.architecture.model_copy(update={"encode_covariates": False})
    lone = manifest.batch.model_copy(update={"categories": ("a",)})
    assert "turned off" in against(manifest, cells, "off")
    assert "continuous" in against(manifest.model_copy(update={"input": "continuous"}), cells)
    assert "one batch" in against(manifest.model_copy(update={"batch": lone}), cells)
    assert "cannot change" in against(manifest.model_copy(update={"architecture": blind}), cells)
    assert "no cells" in against(manifest, None)
    sized = manifest.model_copy(update={"size_factor_key": "depth"})
    assert "size factors" in against(sized, cells)
    monkeypatch.setattr(recipe_search, "FEWEST_CELLS", 1_000)
    assert "760 cells are fewer than 1,000" in against(manifest, cells)


def test_a_condition_column_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownDesignColumn, match="treatment"):
        build_reference(tmp_path, simulate({"a": 40, "b": 40}), condition_key="treatment")
