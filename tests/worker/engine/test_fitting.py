"""The fit: it starts where it says, gets better, stops for a reason, and can be cancelled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models_store.recipe import RECIPES, Recipe
from models_store.surgery import graft, query_weights
from tests.worker.engine.simulated import Reference, nothing, simulate, surgery_on, write_canonical
from worker.fitting import Fit, n_epochs
from worker.grafting import QuerySurgery


@pytest.fixture(scope="module")
def surgery(recommended: Reference, tmp_path_factory: pytest.TempPathFactory) -> QuerySurgery:
    cells = simulate({"shifted": 400}, seed=9)
    query = write_canonical(tmp_path_factory.mktemp("fit") / "q", cells)
    return surgery_on(recommended, query)


def fitted(surgery: QuerySurgery, recipe: Recipe) -> Fit:
    (found,) = surgery.fit(surgery.project(nothing), recipe, nothing)
    assert found.fit is not None
    return found.fit


def test_default_improves_the_held_out_elbo_and_says_why_it_ended(surgery: QuerySurgery) -> None:
    fit = fitted(surgery, RECIPES["default"])
    assert fit.elbo_after > fit.elbo_before + 1
    assert fit.n_held_out == 40
    assert fit.stop_reason.startswith("converged")
    assert fit.shrinkage > 0


def test_forward_trains_nothing_and_keeps_the_mean_rows(surgery: QuerySurgery) -> None:
    fit = fitted(surgery, RECIPES["forward"])
    start = query_weights(graft(surgery.cvae, surgery.design.n_new))
    assert all(torch.equal(fit.weights[name], start[name]) for name in start)
    assert fit.elbo_after == fit.elbo_before
    assert (fit.epochs, fit.shrinkage) == (0, 0.0)


def test_a_stronger_prior_moves_rows_less(surgery: QuerySurgery) -> None:
    distances = [
        fitted(surgery, RECIPES["default"].model_copy(update={"penalty": strength})).shrinkage
        for strength in (0.01, 1.0, 100.0)
    ]
    assert distances[0] > distances[1] > distances[2]


def test_rows_go_as_far_as_their_distance_warrants(surgery: QuerySurgery) -> None:
    whole = RECIPES["default"].model_copy(update={"chance_distance": 0.0})
    far = fitted(surgery, whole)
    by_chance = far.shrinkage * 2  # of 50 cells; 400 make it less
    fit = fitted(surgery, whole.model_copy(update={"chance_distance": by_chance}))
    assert far.trusted == 1.0
    assert fit.trusted == pytest.approx(1 - 4 * 50 / 400)
    assert fit.shrinkage == pytest.approx(far.shrinkage * fit.trusted, rel=1e-4)
    assert fit.elbo_before < fit.elbo_after < far.elbo_after


def test_scvi_tools_starts_at_random_and_runs_its_epochs(surgery: QuerySurgery) -> None:
    recipe = RECIPES["scvi-tools"].model_copy(update={"max_epochs": 2})
    fit = fitted(surgery, recipe)
    assert (fit.epochs, fit.n_held_out) == (2, 0)
    assert fit.stop_reason == "the recipe's number of epochs"
    assert fit.shrinkage > fitted(surgery, RECIPES["forward"]).shrinkage


def test_epochs_of_scvi_tools_heuristic() -> None:
    assert [n_epochs(RECIPES["scvi-tools"], n) for n in (100, 20_000, 40_000, 10**9)] == [
        400,
        400,
        200,
        1,
    ]


def test_a_cancel_ends_the_fit_within_one_step(surgery: QuerySurgery) -> None:
    class Cancelled(Exception):
        pass

    calls = []

    def cancel(share: float) -> None:
        calls.append(share)
        if len(calls) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        surgery.fit(surgery.project(nothing), RECIPES["default"], cancel)
    assert len(calls) == 3


def test_few_cells_watch_their_own_objective(recommended: Reference, tmp_path: Path) -> None:
    query = write_canonical(tmp_path / "q", simulate({"small": 12}))
    fit = fitted(surgery_on(recommended, query), RECIPES["default"])
    assert fit.n_held_out == 0
    assert "penalised" in fit.stop_reason
