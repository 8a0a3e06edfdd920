"""Mixing of query cells and reference cells."""

from __future__ import annotations

import numpy as np
import pytest

from worker.mixing import mixing


def cells(n: int, seed: int, centre: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(centre, 1.0, (n, 4)).astype(np.float32)


@pytest.mark.parametrize("n_query", [60, 400])
def test_one_population_mixes_as_chance_has_it(n_query: int) -> None:
    assert mixing(cells(600, 0), cells(n_query, 1)) == pytest.approx(1.0, abs=0.06)


def test_apart_nothing_mixes() -> None:
    assert mixing(cells(200, 0), cells(100, 1, centre=50.0)) == 0.0


def test_a_lone_query_cell_has_only_the_reference() -> None:
    assert mixing(cells(50, 0), cells(1, 1)) == 1.0


def test_a_cell_is_no_neighbour_of_its_own_however_many_are_like_it() -> None:
    """40 equal query cells have 39 equals each, and the sought 30 are among them."""
    assert mixing(cells(50, 0), np.zeros((40, 4), np.float32) + 30) == 0.0
    twins = cells(60, 0)
    assert mixing(twins, twins) == pytest.approx(1.0, abs=0.1)


def test_few_cells_in_all() -> None:
    """Both are among the three others of each query cell: 2/3 of them, as by chance."""
    assert mixing(cells(2, 0), cells(2, 1)) == pytest.approx(1.0)
