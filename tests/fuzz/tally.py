"""What became of all damaged files of a seed so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 50


@dataclass
class Tally:
    """Sums over batches. Every key is `flips ...` or `mutants ...`."""

    outcomes: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    """The first code of each refusal."""
    mapped: Counter[str] = field(default_factory=Counter)
    """What became of distinct accepted queries in a mapping."""
    in_zygote: Counter[str] = field(default_factory=Counter)
    control: Counter[str] = field(default_factory=Counter)
    """Files that were also read without a proof."""
    violations: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    """Files of each kind, numbered from 0 to this."""
    examples: dict[str, list[int]] = field(default_factory=dict)
    """Numbers of files that killed their child or broke a promise: `--only KIND NUMBER`."""
    seconds: float = 0.0

    def note(self, kind: str, number: int, what: str) -> None:
        listed = self.examples.setdefault(f"{kind} {what}", [])
        if len(listed) < EXAMPLES:
            listed.append(number)

    def violate(self, kind: str, number: int, what: str) -> None:
        self.violations[what] += 1
        self.note(kind, number, what)

    def judged(self, kind: str, outcome: dict[str, Any]) -> None:
        """`outcome`: of `tests.fuzz.proof`."""
        how = next(iter(outcome))
        self.outcomes[f"{kind} {how}"] += 1
        if how == "refused":
            self.codes[outcome["refused"][0]] += 1

    def told(self) -> str:
        return "\n".join(
            (
                f"{_listed(self.done) or 'nothing'} in {self.seconds / 60:.0f} minutes",
                f"  proof:    {_listed(self.outcomes)}",
                f"  zygote:   {_listed(self.in_zygote)}",
                f"  mapped:   {_listed(self.mapped)}",
                f"  control:  {_listed(self.control)}",
                f"  refusals: {_listed(Counter(dict(self.codes.most_common(12))))}",
                f"  broken promises: {_listed(self.violations) or 'none'}",
            )
        )


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counter.items() if number)
