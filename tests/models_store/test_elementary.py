"""Elementary functions of the kernels against numpy in float64."""

from __future__ import annotations

import numpy as np

from models_store.elementary import exp2, log1p, rank, ranked


def test_powers_of_two_over_their_whole_range() -> None:
    t = np.linspace(-126, 126, 5000).astype(np.float32)
    ours = np.array([exp2(each) for each in t], dtype=np.float64)
    assert np.abs(ours / np.exp2(t.astype(np.float64)) - 1).max() < 3e-7


def test_powers_beyond_the_range_are_those_at_its_ends() -> None:
    assert exp2(np.float32(-1e30)) == 2.0**-126
    assert np.isfinite(exp2(np.float32(1e30)))


def test_logarithms_of_the_tiny_and_the_huge() -> None:
    t = np.exp(np.linspace(-60, 60, 5000)).astype(np.float32)
    ours = np.array([log1p(each) for each in t], dtype=np.float64)
    assert np.abs(ours / np.log1p(t.astype(np.float64)) - 1).max() < 3e-7


def test_ranks_order_as_floats_do() -> None:
    floats = np.array([-np.inf, -3e38, -1.5, -1e-40, 0.0, 1e-40, 1.5, 3e38], dtype=np.float32)
    ranks = [rank(each) for each in floats]
    assert ranks == sorted(ranks)
    assert [ranked(each) for each in ranks] == list(floats)
