"""The rule by which a recipe is chosen, on made-up figures."""

from __future__ import annotations

from typing import Any

import pytest

from models_store.recipe_evidence import Fold, Trial
from worker.recipe_choice import FORWARD, choose

STRONG, MIDDLE, WEAK = NAMES = ("penalty 1.0", "penalty 0.1", "penalty 0.01")


def trial(recipe: str, **figures: Any) -> Trial:
    plain = {"cells": "all", "macro_f1": 0.8, "mixing": 0.5, "elbo_before": -100.0, "elbo": -99.0}
    return Trial(recipe=recipe, n_cells=300, seconds=1.0, **{**plain, **figures})


def fold(name: str = "a", **changed: dict[str, Any]) -> Fold:
    """All recipes alike, but for what is said of some by their names' first words."""
    recipes = {"forward": FORWARD, "strong": STRONG, "middle": MIDDLE, "weak": WEAK}
    trials = [trial(recipe, **changed.get(said, {})) for said, recipe in recipes.items()]
    return Fold(batches=(name,), n_cells=300, n_training_cells=900, seconds=1, trials=tuple(trials))


def test_the_best_labels_win() -> None:
    assert choose([fold(middle={"macro_f1": 0.9})], NAMES).recipe == MIDDLE
    assert choose([fold(weak={"macro_f1": 0.806}, middle={"macro_f1": 0.7})], NAMES).recipe == WEAK


def test_of_recipes_that_do_as_well_the_one_that_moves_least_is_taken() -> None:
    assert choose([fold()], NAMES).recipe == STRONG
    assert choose([fold(weak={"macro_f1": 0.8049})], NAMES).recipe == STRONG


def test_mixing_is_needed_in_every_fold() -> None:
    torn = {"macro_f1": 0.9, "mixing": 0.47}
    assert choose([fold(middle=torn), fold("b", middle={"macro_f1": 0.9})], NAMES).recipe == STRONG
    held = {"macro_f1": 0.9, "mixing": 0.476}
    assert choose([fold(middle=held)], NAMES).recipe == MIDDLE
    unknown = {"macro_f1": 0.9, "mixing": None}
    assert choose([fold(middle=unknown)], NAMES).recipe == MIDDLE


def test_small_queries_count_as_much_as_whole_batches() -> None:
    whole = fold(weak={"macro_f1": 0.82})
    sample = [
        each.model_copy(update={"cells": "sample", "macro_f1": 0.7 if each.recipe == WEAK else 0.8})
        for each in whole.trials
    ]
    both = whole.model_copy(update={"trials": (*whole.trials, *sample)})
    assert choose([whole], NAMES).recipe == WEAK
    assert choose([both], NAMES).recipe == STRONG


def test_the_response_must_be_kept() -> None:
    kept, lost = {"retained_response": 0.9}, {"retained_response": 0.8}
    told = fold(forward=kept, strong=lost, middle=kept, weak=kept)
    assert choose([told], NAMES).recipe == MIDDLE
    found = choose([fold(forward=kept, strong=lost, middle=lost, weak=lost)], NAMES)
    assert found.recipe is None
    assert "the best response" in found.reason


@pytest.mark.parametrize(
    ("elbo", "chosen"), [(-90.0, WEAK), (-98.99, STRONG)], ids=["a gain", "a tie"]
)
def test_without_labels_the_elbo_decides(elbo: float, chosen: str) -> None:
    nobody: dict[str, Any] = {"macro_f1": None}
    told = fold(forward=nobody, strong=nobody, middle=nobody, weak=nobody | {"elbo": elbo})
    assert choose([told], NAMES).recipe == chosen


def test_what_diverged_is_not_chosen() -> None:
    broken = {"macro_f1": None, "mixing": None, "elbo": None, "elbo_before": None}
    assert choose([fold(strong=broken)], NAMES).recipe == MIDDLE
    nothing = fold().model_copy(update={"trials": ()})
    assert choose([nothing], NAMES).recipe is None
    assert choose([nothing, fold("b", weak={"macro_f1": 0.9})], NAMES).recipe == WEAK


def test_nothing_that_mixes_leaves_the_releases_default() -> None:
    torn = {"mixing": 0.1}
    found = choose([fold(strong=torn, middle=torn, weak=torn)], NAMES)
    assert found.recipe is None
    assert "95% of the mixing" in found.reason
