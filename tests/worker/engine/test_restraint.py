"""How far fitted rows take a batch: no further than it stays mixed with the reference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models_store.recipe import RECIPES
from tests.worker.engine.simulated import Reference, nothing, simulate
from tests.worker.engine.test_mapping import order
from worker.mapping import run_mapping
from worker.mixing import mixing
from worker.reference_cache import ReferenceCache
from worker.restraint import restrain


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
    assert found.mixing == pytest.approx(found.mixing_start)


@pytest.mark.parametrize("kept", [0.95, 0.7])
def test_some_of_it_is_where_some_mixing_may_go(kept: float) -> None:
    reference, query = cells(400, 0), cells(200, 1)
    place = leaving(query, 6.0)
    found = restrain(reference, place, kept)
    assert 0 < found.share < 1
    # Between two places that were looked at the share is taken as linear.
    there = mixing(reference, place(found.share)) / mixing(reference, query)
    assert there == pytest.approx(kept, abs=0.1)


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


def test_a_mapping_tells_how_far_it_went_and_keeps_its_mixing(
    reference: Reference, tmp_path: Path
) -> None:
    told = {}
    for recipe in ("default", "converged", "forward"):
        ordered = order(reference, tmp_path / recipe, simulate({"c": 150}), recipe=recipe)
        (told[recipe],) = run_mapping(ordered, ReferenceCache(), nothing)["batches"]
    restraint = told["default"]["restraint"]
    assert RECIPES["default"].mixing_kept == 1.0
    assert restraint["mixing"] >= restraint["mixing_forward"] - 1e-3
    assert 0 <= restraint["share"] <= 1
    assert told["converged"]["restraint"] is told["forward"]["restraint"] is None
    if restraint["share"] == 0:
        assert told["default"]["shrinkage"] == 0
