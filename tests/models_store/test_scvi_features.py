"""Whose features the names of a save are, when a MuData's modalities stood in one list."""

from __future__ import annotations

from typing import Any

import pytest

from models_store.scvi_features import Features, features_of
from models_store.scvi_refusals import InconsistentSave, UnsupportedSave

GENES, PROTEINS = ["CD3E", "CD8A", "SELL"], ["CD3", "CD8"]
FIELDS = {
    "X": {"n_obs": 120, "n_vars": 3, "column_names": GENES, "n_cells": 120},
    "proteins": {"column_names": PROTEINS, "n_proteins": 2},
}
MODALITIES = {"rna_layer": "rna", "protein_layer": "protein", "batch_key": "rna"}


@pytest.mark.parametrize("names", [GENES + PROTEINS, PROTEINS + GENES])
def test_fields_tell_whose_the_names_are(names: list[str]) -> None:
    """As TOTALVI of 0.17 to 1.1 saved it, whatever the order of the modalities."""
    found = features_of("TOTALVI", names, FIELDS, MODALITIES, {})
    assert found == Features(genes=tuple(GENES), proteins=tuple(PROTEINS))


@pytest.mark.parametrize(
    ("model", "names", "problem", "says"),
    [
        ("TOTALVI", [*GENES, "CD3", "CD4"], InconsistentSave, "different genes"),
        ("TOTALVI", [*GENES, "CD3"], InconsistentSave, "different genes"),
        ("SCVI", GENES, UnsupportedSave, "several modalities"),
    ],
)
def test_refused(model: str, names: list[Any], problem: type[Exception], says: str) -> None:
    with pytest.raises(problem, match=says):
        features_of(model, names, FIELDS, MODALITIES, {})
