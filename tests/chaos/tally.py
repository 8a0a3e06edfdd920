"""What all rounds of a seed came to, kept in a file so that a run can go on where it stopped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .round import Outcome


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
