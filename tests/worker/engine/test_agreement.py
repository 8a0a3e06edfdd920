"""How labels found among neighbours are compared with labels that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models_store.manifest import LabelLevel
from worker.agreement import largest_difference, share_found


def test_the_largest_difference(tmp_path: Path) -> None:
    a = np.zeros((3, 2), np.float32)
    files = {}
    for name, values in {
        "a": a,
        "b": np.float32([[0, 0], [0, 1e-3], [0, 0]]),
        "longer": np.zeros((4, 2)),
        "nan": np.full((3, 2), np.nan),
        "empty": np.zeros((0, 2)),
    }.items():
        files[name] = tmp_path / f"{name}.npy"
        np.save(files[name], values)
    assert largest_difference(files["a"], files["a"]) == 0.0
    assert largest_difference(files["a"], files["b"]) == pytest.approx(1e-3)
    assert largest_difference(files["a"], files["longer"]) == float("inf")
    assert largest_difference(files["nan"], files["nan"]) == float("inf")
    assert largest_difference(files["empty"], files["empty"]) == 0.0


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["T", "T", "B", "B"], 1.0),
        (["T", "B", "B", "B"], 0.75),
        (["T", "NK", "B", "missing"], 1.0),  # two of them are unknown here
        (["NK", "NK", "missing", "NK"], None),
    ],
)
def test_agreement_is_a_share_of_the_cells_whose_label_is_known(
    labels: list[str], expected: float | None
) -> None:
    """Two far clusters, T at 0 and B at 10, and four query cells."""
    reference = pd.DataFrame(
        {
            "latent_0": np.repeat(np.float32([0, 10]), 20),
            "variance_0": np.float32(1),
            "cell_type": np.repeat(["T", "B"], 20),
        }
    )
    query = np.float32([[0.1], [0.2], [9.9], [8.5]])
    level = LabelLevel(key="cell_type", categories=("B", "T"))
    assert share_found(reference, level, query, pd.Series(labels)) == expected


@pytest.mark.parametrize("categories", [("B", "T"), ("B", "T", "missing")])
@pytest.mark.parametrize("unlabelled", ["Unknown", "missing"])
def test_reference_cells_without_a_label_have_no_vote(
    unlabelled: str, categories: tuple[str, ...]
) -> None:
    """They are the nearest ones; the next have labels. Nor does a query cell without one count."""
    reference = pd.DataFrame(
        {
            "latent_0": np.repeat(np.float32([0, 1, 10]), 20),
            "cell_type": np.repeat([unlabelled, "T", "B"], 20),
        }
    )
    query, labels = np.float32([[0.1], [9.9], [0.0]]), pd.Series(["T", "B", unlabelled])
    level = LabelLevel(key="cell_type", categories=categories)
    assert share_found(reference, level, query, labels) == 1.0
    assert share_found(reference, level, query[2:], labels[2:]) is None
    nobody = reference.assign(cell_type=unlabelled)
    assert share_found(nobody, level, query, labels) is None


def test_a_level_may_be_called_like_latents() -> None:
    """The latents are as many as those of the query, whatever other columns are called."""
    reference = pd.DataFrame(
        {
            "latent_0": np.repeat(np.float32([0, 10]), 20),
            "latent_type": np.repeat(["T", "B"], 20),
        }
    )
    level = LabelLevel(key="latent_type", categories=("B", "T"))
    assert share_found(reference, level, np.float32([[0.1]]), pd.Series(["T"])) == 1.0
