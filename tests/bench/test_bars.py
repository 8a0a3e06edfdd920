"""Whether a bar is met."""

from __future__ import annotations

import pytest

from bench.bars import BARS, Bar

FASTER = Bar("faster", "x", ("times_faster",), 8, 15)
SECONDS = Bar("seconds", "x", ("deep", "seconds"), 45, 25, "s")
NO_WISH = Bar("seconds", "x", ("seconds",), 0.3, None, "s")


@pytest.mark.parametrize(
    ("bar", "figure", "verdict"),
    [
        (FASTER, 7.9, "**missed**"),
        (FASTER, 8, "met"),
        (FASTER, {"median": 15.0, "min": 3.0, "max": 20.0}, "stretch met"),
        (SECONDS, 45.1, "**missed**"),
        (SECONDS, 45, "met"),
        (SECONDS, 25, "stretch met"),
        (NO_WISH, 0.1, "met"),
        (SECONDS, None, "not measured"),
    ],
)
def test_verdict_is_of_the_median(bar, figure, verdict) -> None:
    assert bar.verdict(figure) == verdict


def test_figures_are_found_where_they_stand() -> None:
    assert SECONDS.figure({"x": {"deep": {"seconds": 30}}}) == 30
    assert SECONDS.figure({"x": {"deep": {}}}) is None
    assert SECONDS.figure({}) is None


def test_a_smaller_run_is_not_the_figure_asked_for() -> None:
    plate = next(bar for bar in BARS if bar.benchmark == "plates")
    told = {"samples": 6, "cells_each": 2000, "submitted together": {"seconds": 38.7}}
    assert plate.figure({"plates": told}) is None
    assert plate.figure({"plates": told | {"samples": 96, "cells_each": 5000}}) == 38.7
