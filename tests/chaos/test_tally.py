"""Figures add up over rounds, and a run goes on where it stopped."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.running_tally import State

from .checker import Violation
from .round import Outcome
from .tally import Tally


def test_sums_survive_the_process_that_made_them(tmp_path: Path) -> None:
    broken = [Violation("lost upload", "q1", "gone"), Violation("lost upload", "q2", "gone")]
    kept = State(tmp_path / "state.json", Tally)
    for outcome in (
        Outcome(
            "s3", {"api"}, Counter(api=2, child=1), uploads=3, mappings=5, shards=2, seconds=4.0
        ),
        Outcome("s3", kills=Counter(child=4), mappings=1, shards=1, swept=1, seconds=9.0),
        Outcome("embedded", uploads=1, seconds=5.0, violations=broken),
    ):
        tally = kept.read("seed-0")
        tally.add(outcome)
        kept.write("seed-0", tally)
    found = State(tmp_path / "state.json", Tally).read("seed-0")
    assert (found.rounds, found.modes) == (3, Counter(s3=2, embedded=1))
    assert found.kills == Counter(api=2, child=5)
    assert (found.uploads, found.mappings, found.shards, found.swept) == (4, 6, 3, 1)
    assert (found.seconds, found.longest_seconds) == (Counter(s3=13, embedded=5), 9.0)
    assert found.violations == Counter({"lost upload": 2})
    told = found.told(1000)
    assert "7 of 1000 kills (api 2, child 5) in 3 rounds (1 embedded of 5 s, 2 s3 of 6 s)" in told
    assert State(tmp_path / "state.json", Tally).read("seed-1") == Tally()
