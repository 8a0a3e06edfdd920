"""A short `make chaos`: 60 kills over all modes, and nothing is lost or done twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import missing

from .modes import missing_programs
from .round import Outcome, Plan, play

pytestmark = pytest.mark.slow
KILLS = {"distributed": 22, "s3": 22, "embedded": 16}
"""Enough for every target of the mode to have its turn."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chaos")


@pytest.fixture(scope="module", params=KILLS)
def plan(request: pytest.FixtureRequest, folder: Path) -> Plan:
    mode: str = request.param
    if lacking := missing_programs(mode):
        missing(" and ".join(lacking))
    return Plan(folder / mode, f"ci-{mode}", KILLS[mode], mode)


@pytest.fixture(scope="module")
def outcome(plan: Plan) -> Outcome:
    return play(plan)


def test_every_target_is_found_alive_and_dies(plan: Plan, outcome: Outcome) -> None:
    assert outcome.met == set(plan.weights) == set(outcome.kills)


def test_kills_cost_time_and_nothing_else(plan: Plan, outcome: Outcome) -> None:
    assert outcome.violations == [], plan.folder
    assert outcome.kills.total() == plan.kills
    assert outcome.mappings > plan.kills


def test_where_there_are_several_workers_a_large_query_is_split(
    plan: Plan, outcome: Outcome
) -> None:
    assert outcome.shards > 0 or plan.mode == "embedded"
