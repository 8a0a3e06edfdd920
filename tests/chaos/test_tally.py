"""Figures add up over rounds, and a run goes on where it stopped."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .checker import Violation
from .round import Outcome
from .tally import State, Tally


def test_sums_survive_the_process_that_made_them(tmp_path: Path) -> None:
    broken = [Violation("lost upload", "q1", "gone"), Violation("lost upload", "q2", "gone")]
    kept = State(tmp_path / "state.json")
    for outcome in (
        Outcome(Counter(api=2, child=1), uploads=3, mappings=5, swept=1, seconds=4.0),
        Outcome(Counter(child=4), uploads=1, mappings=1, seconds=9.0, violations=broken),
    ):
        tally = kept.read("seed-0")
        tally.add(outcome)
        kept.write("seed-0", tally)
    found = State(tmp_path / "state.json").read("seed-0")
    assert (found.rounds, found.kills) == (2, Counter(api=2, child=5))
    assert (found.uploads, found.mappings, found.swept) == (4, 6, 1)
    assert (found.seconds, found.longest_seconds) == (13.0, 9.0)
    assert found.violations == Counter({"lost upload": 2})
    assert "7 of 1000 kills (api 2, child 5)" in found.told(1000)
    assert State(tmp_path / "state.json").read("seed-1") == Tally()
