"""Mixing of query cells and reference cells."""

from __future__ import annotations

import pytest
import torch

from worker.mixing import mixing


def cells(n: int, seed: int, centre: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator) + centre


@pytest.mark.parametrize("n_query", [60, 400])
def test_one_population_mixes_as_chance_has_it(n_query: int) -> None:
    assert mixing(cells(600, 0), cells(n_query, 1)) == pytest.approx(1.0, abs=0.06)


def test_apart_nothing_mixes() -> None:
    assert mixing(cells(200, 0), cells(100, 1, centre=50.0)) == 0.0


def test_a_lone_query_cell_has_only_the_reference() -> None:
    assert mixing(cells(50, 0), cells(1, 1)) == 1.0


def test_a_cell_is_no_neighbour_of_its_own_however_many_are_like_it() -> None:
    """40 equal query cells have 39 equals each, and the sought 30 are among them."""
    assert mixing(cells(50, 0), torch.zeros(40, 4) + 30) == 0.0
    twins = cells(60, 0)
    assert mixing(twins, twins) == pytest.approx(1.0, abs=0.1)


def test_few_cells_in_all() -> None:
    """Both are among the three others of each query cell: 2/3 of them, as by chance."""
    assert mixing(cells(2, 0), cells(2, 1)) == pytest.approx(1.0)


def test_some_are_judged_among_all() -> None:
    """The first 50 lie with the reference, the others nowhere near it."""
    query = torch.cat([cells(50, 1), cells(50, 2, centre=30.0)])
    assert mixing(cells(600, 0), query, judged=50) > 1.0
    assert mixing(cells(600, 0), query) == pytest.approx(
        mixing(cells(600, 0), query, judged=50) / 2, rel=1e-6
    )


def test_many_are_judged_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mixing(cells(100, 0), cells(40, 1))
    monkeypatch.setattr("worker.mixing.JUDGED_AT_ONCE", 7)
    assert mixing(cells(100, 0), cells(40, 1)) == whole
