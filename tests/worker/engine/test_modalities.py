"""References of several modalities: what is built of a file, and queries that lack some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.problems import UntrainableReference
from models_store.bundle import load_bundle
from models_store.multivi import MULTIVI
from tests.worker.engine.simulated import N_GENES
from tests.worker.engine.test_regions import built
from worker.networks import draft_architecture

N_OF_GENES, N_OF_REGIONS = 25, 25
TYPES = [
    *["Gene Expression"] * N_OF_GENES,
    *["Peaks"] * N_OF_REGIONS,
    *["Antibody Capture"] * (N_GENES - N_OF_GENES - N_OF_REGIONS),
]


def test_all_three_kinds_of_features_are_taken(tmp_path: Path) -> None:
    made: dict[str, Any] = built(tmp_path, TYPES, kind="multivi")
    kinds = {run["kind"]: run["count"] for run in made["genes"]["modalities"]}
    assert kinds == {"gene": 25, "region": 25, "protein": 10}
    a = made["architecture"]
    assert (a["n_hidden"], a["n_latent"], a["log_variational"]) == (5, 2, False)
    assert made["self_test"]["reference_reproduced"]
    assert made["self_test"]["padded_cells_map"]
    assert sum(made["expected_expression"]) == pytest.approx(1)
    _, network = load_bundle(tmp_path / "bundle")
    assert isinstance(network, MULTIVI)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dispersion": "gene-label"}, "no labels"),
        ({"model_depth": False}, "no option of kind MULTIVI"),
        ({"library": "latent"}, "no option of kind MULTIVI"),
        ({"modality_weights": "cell"}, "modality_weights is 'cell'"),
    ],
)
def test_options_that_it_has_not(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UntrainableReference, match=says):
        draft_architecture({"kind": "MULTIVI", "architecture": options}, "counts")
