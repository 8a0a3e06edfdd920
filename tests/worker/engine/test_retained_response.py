"""How well conditions are told apart within a label."""

from __future__ import annotations

import numpy as np
import pytest

from worker.retained_response import retained_response


def cells(shift: float, n: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two labels, far apart, and two conditions, `shift` apart within each."""
    rng = np.random.default_rng(0)
    labels, condition = np.tile(["B", "T"], n), np.repeat(["control", "stimulated"], n)
    latents = rng.normal(0, 1, (2 * n, 3))
    latents[:, 0] += 20 * (labels == "T")
    latents[:, 1] += shift * (condition == "control")
    return latents.astype(np.float32), labels, condition


def test_from_nothing_to_all() -> None:
    """Normal cells two deviations apart: the area is Phi(2 / sqrt 2) = 0.921."""
    assert retained_response(*cells(30.0), seed=0) == 1.0
    assert retained_response(*cells(2.0), seed=0) == pytest.approx(0.921, abs=0.05)
    nothing = retained_response(*cells(0.0), seed=0)
    assert nothing == pytest.approx(0.5, abs=0.12)


def test_it_is_within_labels_that_have_both() -> None:
    """A shift that labels alone explain is no response; nor are two or three cells a condition."""
    latents, labels, condition = cells(30.0)
    assert retained_response(latents, condition, condition, seed=0) is None
    few = np.where(np.arange(len(condition)) < 5, "treated", "control")
    assert retained_response(latents, labels, few, seed=0) is None


def test_the_seed_decides() -> None:
    assert retained_response(*cells(1.0), seed=3) == retained_response(*cells(1.0), seed=3)
