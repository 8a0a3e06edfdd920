"""A short `make chaos`: some kills of either mode, and nothing is lost or done twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import missing

from .preparing import missing_programs
from .round import Plan, play

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("mode", "kills"), [("embedded", 6), ("distributed", 20)])
def test_kills_cost_time_and_nothing_else(tmp_path: Path, mode: str, kills: int) -> None:
    if mode == "distributed" and (lacking := missing_programs()):
        missing(" and ".join(lacking))
    outcome = play(Plan(tmp_path / "round", f"ci-{mode}", kills, mode))
    assert outcome.violations == [], tmp_path
    assert outcome.kills.total() == kills
    assert outcome.mappings > kills
