"""Labels by the vote of neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from worker.label_vote import macro_f1, nearness, vote


def test_weights_are_those_of_scarches() -> None:
    distances = np.random.default_rng(0).gamma(2.0, 1.0, (5, 15))
    stds = ((2.0 / np.std(distances, axis=1)) ** 2).reshape(-1, 1)
    assert nearness(distances) == pytest.approx(np.exp(-np.true_divide(distances, stds)))


def test_neighbours_at_one_distance_weigh_the_same() -> None:
    assert nearness(np.full((2, 3), 4.0)).tolist() == [[1.0] * 3] * 2


def test_a_near_minority_outweighs_a_far_majority() -> None:
    reference = np.float32([[0.0]] * 7 + [[9.0]] * 8)
    labels = np.array(["T"] * 7 + ["B"] * 8)
    query = np.float32([[0.1]])
    assert vote(reference, labels, query).tolist() == ["B"]
    assert vote(reference, labels, query, weights=nearness).tolist() == ["T"]


def test_macro_f1_is_the_mean_over_the_labels_that_occur() -> None:
    """T: precision 2/3, recall 1. B: precision 1, recall 1/2. NK was found and never given."""
    given, found = np.array(["T", "T", "B", "B"]), np.array(["T", "T", "T", "B"])
    assert macro_f1(given, found) == pytest.approx((0.8 + 2 / 3) / 2)
    assert macro_f1(given, np.array(["T", "T", "NK", "B"])) == pytest.approx((1 + 2 / 3) / 2)
    assert macro_f1(given, np.array(["NK"] * 4)) == 0.0
