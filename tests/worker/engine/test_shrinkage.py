"""How far the rows of a batch are trusted, by their distance from the start and its cells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.shrinkage import trusted_share

distances = st.floats(0.01, 100)
cells = st.integers(1, 100_000)


def test_hand_computed_shares() -> None:
    assert trusted_share(8.0, 20, 4.0) == pytest.approx(0.75)
    assert trusted_share(8.0, 200, 4.0) == pytest.approx(1 - 0.25 * 50 / 200)
    assert trusted_share(3.9, 50, 4.0) == 0.0
    assert trusted_share(3.9, 50, 0.0) == 1.0
    assert trusted_share(0.0, 50, 4.0) == 1.0


@given(distances, distances, cells)
def test_a_longer_way_is_trusted_more(a: float, b: float, n: int) -> None:
    near, far = sorted((a, b))
    assert 0 <= trusted_share(near, n, 4.0) <= trusted_share(far, n, 4.0) <= 1


@given(distances, cells, cells)
def test_more_cells_are_trusted_more(distance: float, a: int, b: int) -> None:
    fewer, more = sorted((a, b))
    assert trusted_share(distance, fewer, 4.0) <= trusted_share(distance, more, 4.0)
