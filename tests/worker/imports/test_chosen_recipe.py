"""An import with counts chooses its recipe as a build does, by networks of the save's sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from models_store.recipe import CANDIDATES, RECIPES
from worker import recipe_search, training_plan
from worker.imports.telling import tell

from .files import import_save, write_counts
from .saves import Model, some_cells, write

MODEL = Model(batches=("a", "b", "c"), plates=("p", "q"))
CELLS = some_cells(MODEL, n_cells=800)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_search, "FEWEST_CELLS", 700)
    monkeypatch.setattr(training_plan, "default_epochs", lambda _: 1)
    one = (CANDIDATES[0].model_copy(update={"max_epochs": 2}),)
    monkeypatch.setattr(recipe_search, "CANDIDATES", one)


def test_folds_are_trained_beside_the_saved_network(tmp_path: Path) -> None:
    file = write_counts(tmp_path / "cells.h5ad", MODEL, CELLS)
    saved = write(tmp_path / "save", MODEL, "1.4.2")
    imported = import_save(saved, tmp_path / "searched", path=file, labels_keys=("cell_type",))
    evidence = imported.manifest.recipe_evidence
    assert evidence is not None
    assert len(evidence.folds) == 2
    assert imported.manifest.default_recipe in {RECIPES["default"], *evidence.candidates.values()}
    assert all(trial.macro_f1 is not None for fold in evidence.folds for trial in fold.trials)
    assert f"Default recipe: {evidence.reason}" in list(tell(imported))


def test_without_counts_there_is_no_search(tmp_path: Path) -> None:
    saved = write(tmp_path / "save", MODEL, "1.4.2")
    found = import_save(saved, tmp_path / "bare").manifest.recipe_evidence
    assert found is not None
    assert (found.folds, found.chosen) == ((), None)
    assert "no cells with counts" in found.reason
