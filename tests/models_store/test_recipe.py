"""Recipes, what a version says of the choice of its own, and the card that shows it."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from models_store.manifest import Manifest
from models_store.model_card import model_card
from models_store.recipe import CANDIDATES, RECIPES, Recipe, told_apart
from models_store.recipe_evidence import Fold, RecipeEvidence, Trial

from .manifests import fields, manifest


def test_candidates_are_told_apart_by_what_differs() -> None:
    told = told_apart(CANDIDATES)
    assert list(told.values()) == list(CANDIDATES)
    assert next(iter(told)) == "penalty 1.0"
    slow = CANDIDATES[0].model_copy(update={"learning_rate": 0.01})
    assert list(told_apart([CANDIDATES[1], slow])) == [
        "penalty 0.3, learning_rate 0.1",
        "penalty 1.0, learning_rate 0.01",
    ]
    assert list(told_apart(CANDIDATES[:1])) == ["default"]


def test_a_candidate_is_the_default_of_whoever_chooses_it() -> None:
    """A mapping's recipe bears this name, and its other values say which it is."""
    assert {recipe.name for recipe in CANDIDATES} == {"default"}


@pytest.mark.parametrize("field", ["penalty", "learning_rate", "adam_eps", "tolerance"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_recipe_has_numbers_that_json_can_tell(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        Recipe.model_validate({"name": "default", field: value})


def evidence() -> RecipeEvidence:
    figures = {"cells": "all", "n_cells": 1200, "seconds": 2.25}
    forward = Trial(recipe="forward", macro_f1=0.8125, mixing=0.5, elbo=-100.5, **figures)
    diverged = Trial(recipe="penalty 0.3", **figures)
    names = ("a", "b", "c", "d")
    fold = Fold(
        batches=names, n_cells=1200, n_training_cells=9, seconds=1, trials=(forward, diverged)
    )
    return RecipeEvidence(
        reason="penalty 0.3, because.",
        chosen="penalty 0.3",
        candidates={"penalty 0.3": CANDIDATES[1]},
        folds=(fold,),
        seconds=9.5,
    )


def test_the_evidence_comes_back_from_json_and_older_manifests_have_none() -> None:
    found = manifest(**evidence().fields())
    again = Manifest.model_validate_json(found.model_dump_json())
    assert again == found
    assert again.recipe("default") == CANDIDATES[1]
    assert again.recipe("forward") == RECIPES["forward"]
    assert manifest().recipe_evidence is None
    assert RecipeEvidence(reason="none").recipe == RECIPES["default"]
    assert "recipe_evidence" not in fields()


def test_the_card_shows_what_was_chosen_and_why() -> None:
    card = model_card(manifest(**evidence().fields()))
    assert "| default recipe | penalty 0.3, chosen for this version |" in card
    assert "Default recipe: penalty 0.3, because." in card
    assert "| a, b, c ... | forward | 1,200 | 0.812 | 0.500 |  | -100.500 | 2.2 |" in card
    assert "| a, b, c ... | penalty 0.3 | 1,200 |  |  |  |  | 2.2 |" in card
    plain = model_card(manifest())
    assert "| default recipe | default |" in plain
    assert "held out | recipe" not in plain
