"""How far fitted rows take a batch: no further than it stays mixed with the reference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models_store.recipe import RECIPES
from tests.worker.engine.simulated import Reference, build_reference, nothing, simulate
from tests.worker.engine.test_mapping import order
from worker.mapping import run_mapping
from worker.mixing import mixing, remoteness
from worker.reference_cache import ReferenceCache
from worker.restraint import lowest, restrain

PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)


def cells(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


def leaving(query: torch.Tensor, by: float):
    """A batch that is moved to the side as its rows are gone along with."""
    return lambda share: query + share * by


def test_what_brings_a_batch_nearer_is_gone_along_with() -> None:
    far = cells(200, 1) + 4.0
    found = restrain(cells(400, 0), leaving(far, -4.0), 1.0)
    assert found.share == 1.0
    assert found.mixing == found.mixing_fitted > found.mixing_start


def test_what_takes_a_well_mixed_batch_away_is_not() -> None:
    reference, query = cells(400, 0), cells(200, 1)
    found = restrain(reference, leaving(query, 6.0), 1.0)
    assert found.share < 0.2
    assert found.mixing_fitted < 0.1 < found.mixing_start
    assert found.mixing == pytest.approx(found.mixing_start, rel=0.05)


@pytest.mark.parametrize("kept", [0.95, 0.7])
def test_some_of_it_is_where_some_mixing_may_go(kept: float) -> None:
    reference, query = cells(400, 0), cells(200, 1)
    place = leaving(query, 6.0)
    found = restrain(reference, place, kept)
    assert 0 < found.share < 1
    # Between two places that were looked at the share is taken as linear.
    there = mixing(reference, place(found.share))
    assert there / mixing(reference, query) == pytest.approx(kept, abs=0.1)
    assert found.mixing == there


def test_less_is_kept_the_further_it_may_go() -> None:
    reference, place = cells(400, 0), leaving(cells(200, 1), 6.0)
    shares = [restrain(reference, place, kept).share for kept in (1.0, 0.9, 0.5, 0.1)]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


def test_one_count_more_or_less_moves_little() -> None:
    """The share is interpolated: a little noise on the latents never makes it jump."""
    reference, query = cells(400, 0), cells(200, 1)
    noisy = query + 0.001 * cells(200, 2)
    one, other = (restrain(reference, leaving(q, 6.0), 0.9).share for q in (query, noisy))
    assert one == pytest.approx(other, abs=0.02)


def test_rows_of_a_few_cells_go_to_where_these_lie_nearest_and_no_further() -> None:
    """Around 15 cells there are few but reference cells, wherever they lie: mixing is blind."""
    reference, query = cells(400, 0), cells(15, 1) + 3.0
    place = leaving(query, -5.0)  # in its midst at 0.6
    found = restrain(reference, place, 0.9, to_nearest=True)
    assert found.nearest == pytest.approx(0.6, abs=0.05)
    assert found.share == found.nearest
    assert restrain(reference, place, 0.9).nearest == 1.0
    nearest = remoteness(reference, place(found.share))
    assert nearest < 0.9 * min(remoteness(reference, place(t)) for t in (0.0, 1.0))


def test_rows_that_only_lead_away_stay_where_they_start() -> None:
    reference, query = cells(400, 0), cells(15, 1)
    found = restrain(reference, leaving(query, 4.0), 1.0, to_nearest=True)
    assert found.share == found.nearest < 0.1
    gone = restrain(reference, leaving(query + 6.0, -6.0), 1.0, to_nearest=True)
    assert gone.share == gone.nearest > 0.95


def test_a_batch_that_is_nearest_and_keeps_to_itself_goes_back_to_where_it_is_mixed() -> None:
    reference, query = cells(400, 0), cells(300, 1)
    middle = query.mean(0)

    def place(share: float) -> torch.Tensor:
        return middle + (query - middle) * (1 - 0.95 * share)  # all together, where cells are dense

    found = restrain(reference, place, 1.0, to_nearest=True)
    assert found.nearest > 0.9
    assert found.share < 0.5 * found.nearest
    assert found.mixing == pytest.approx(found.mixing_start, rel=0.05)


@given(st.floats(-0.3, 1.3), st.floats(0.1, 10))
def test_the_lowest_place_of_a_parabola_is_found_between_places(at: float, bend: float) -> None:
    found = lowest(PLACES, [bend * (place - at) ** 2 for place in PLACES])
    assert found == pytest.approx(min(max(at, 0.0), 1.0), abs=1e-6)


@given(st.lists(st.floats(0, 10), min_size=5, max_size=5))
def test_the_lowest_place_is_beside_the_lowest_height(heights: list[float]) -> None:
    found = lowest(PLACES, heights)
    assert abs(found - PLACES[heights.index(min(heights))]) <= 0.25


def test_of_a_flat_or_hollow_curve_it_is_the_first_lowest_place() -> None:
    assert lowest(PLACES, [1.0] * 5) == 0.0
    assert lowest(PLACES, [0.0, 2.0, 3.0, 2.0, 0.0]) == 0.0


@pytest.mark.parametrize("judged", [None, 7])
def test_remoteness_is_the_mean_distance_to_the_nearest_30(judged: int | None) -> None:
    reference, query = cells(100, 0).double(), cells(700, 1).double()
    some = query[:judged]
    distances = (some[:, None] - reference[None]).square().sum(-1).sqrt().sort(dim=1).values
    expected = float(distances[:, :30].mean())
    assert remoteness(reference, query, judged=judged) == pytest.approx(expected)
    assert remoteness(reference[:5], some) == pytest.approx(
        float((some[:, None] - reference[None, :5]).square().sum(-1).sqrt().mean())
    )


def test_a_mapping_tells_how_far_it_went_and_keeps_its_mixing(
    reference: Reference, tmp_path: Path
) -> None:
    told = {}
    for recipe in ("default", "converged", "forward"):
        ordered = order(reference, tmp_path / recipe, simulate({"c": 150}), recipe=recipe)
        (told[recipe],) = run_mapping(ordered, ReferenceCache(), nothing)["batches"]
    restraint = told["default"]["restraint"]
    assert told["converged"]["restraint"] is told["forward"]["restraint"] is None
    if not reference.manifest.surgery_has_effect:
        assert restraint is None
        return
    assert RECIPES["default"].mixing_kept == 1.0
    assert restraint["mixing"] >= 0.98 * restraint["mixing_forward"]
    assert 0 <= restraint["share"] <= restraint["nearest"] <= 1
    assert RECIPES["default"].to_nearest
    assert told["default"]["trusted"] == 1.0
    if restraint["share"] == 0:
        assert told["default"]["shrinkage"] == 0


def test_rows_that_move_no_cell_are_not_held_back(tmp_path: Path) -> None:
    """A decoder's rows alone: latents say nothing of them, and decoded values need them."""
    blind = build_reference(
        tmp_path / "r", simulate({"a": 200, "b": 200}), architecture={"encode_covariates": False}
    )
    ordered = order(blind, tmp_path, simulate({"c": 300}))
    (told,) = run_mapping(ordered, ReferenceCache(), nothing)["batches"]
    assert told["restraint"] is None
    assert told["movement"]["max"] == 0.0
    assert told["elbo_after"] > told["elbo_before"] + 0.1
