"""What all rounds of a seed came to, kept in a file so that a run can go on where it stopped."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .round import Outcome

COUNTED = ("modes", "seconds", "kills", "violations")


@dataclass
class Tally:
    """Sums over rounds."""

    modes: Counter[str] = field(default_factory=Counter)
    """Rounds in each."""
    seconds: Counter[str] = field(default_factory=Counter)
    """Of all rounds in each mode."""
    kills: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    uploads: int = 0
    mappings: int = 0
    shards: int = 0
    swept: int = 0
    longest_seconds: float = 0.0
    """Of a round: what the next one may take."""

    def add(self, outcome: Outcome) -> None:
        self.modes[outcome.mode] += 1
        self.seconds[outcome.mode] += round(outcome.seconds)
        self.kills += outcome.kills
        self.violations += Counter(violation.kind for violation in outcome.violations)
        self.uploads += outcome.uploads
        self.mappings += outcome.mappings
        self.shards += outcome.shards
        self.swept += outcome.swept
        self.longest_seconds = max(self.longest_seconds, outcome.seconds)

    @property
    def rounds(self) -> int:
        return self.modes.total()

    def told(self, wanted: int) -> str:
        by_target = ", ".join(f"{name} {number}" for name, number in sorted(self.kills.items()))
        by_mode = ", ".join(
            f"{number} {mode} of {self.seconds[mode] / number:.0f} s"
            for mode, number in sorted(self.modes.items())
        )
        broken = ", ".join(f"{kind}: {number}" for kind, number in self.violations.items())
        return (
            f"{self.kills.total()} of {wanted} kills ({by_target}) in {self.rounds} rounds "
            f"({by_mode}); {self.uploads} uploads and {self.mappings} mappings "
            f"acknowledged, {self.shards} shards; {self.swept} files of dead attempts swept; "
            f"violations: {broken or 'none'}"
        )


class State:
    """The tallies by name, in one JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, name: str) -> Tally:
        found = self._all().get(name, {})
        counters = {each: Counter(found.pop(each, {})) for each in COUNTED}
        return Tally(**counters, **found)

    def write(self, name: str, tally: Tally) -> None:
        """All or nothing: an interrupt leaves the file as it was."""
        beside = self._path.with_suffix(".part")
        beside.write_text(json.dumps(self._all() | {name: vars(tally)}, indent=2))
        beside.replace(self._path)

    def _all(self) -> dict[str, Any]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}
