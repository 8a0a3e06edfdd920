"""What speed and scale must show: each bar, where its figure stands, and whether it is met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Results = Mapping[str, Mapping[str, Any]]
"""What the benchmarks left in bench/results, by name."""

PLATE = {"samples": 96, "cells_each": 5000}


@dataclass(frozen=True)
class Bar:
    """A figure of a benchmark, and what it must be."""

    what: str
    benchmark: str
    at: tuple[str, ...]
    """Where its JSON has the figure: a number, or a median with its spread."""
    must: float
    wish: float | None
    unit: Literal["times", "s", "MiB"] = "times"
    of: Mapping[str, int] = field(default_factory=dict)
    """What else its JSON must say, since a smaller run is another figure."""

    def figure(self, results: Results) -> Any:
        """None where it was not measured."""
        found: Any = results.get(self.benchmark, {})
        if any(found.get(name) != value for name, value in self.of.items()):
            return None
        for name in self.at:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def verdict(self, figure: Any) -> str:
        if figure is None:
            return "not measured"
        value = figure["median"] if isinstance(figure, Mapping) else figure
        if self.wish is not None and self._reaches(value, self.wish):
            return "stretch met"
        return "met" if self._reaches(value, self.must) else "**missed**"

    def _reaches(self, value: float, bound: float) -> bool:
        return value >= bound if self.unit == "times" else value <= bound


FASTER = ("times_faster",)
BARS = (
    Bar("seconds per epoch, recipe `scvi-tools`, nb", "epochs-nb", FASTER, 8, 15),
    Bar("seconds per epoch, recipe `scvi-tools`, zinb", "epochs-zinb", FASTER, 6, 10),
    Bar("seconds per epoch, own recipe, nb", "epochs-nb", ("own_times_faster",), 12, 20),
    *(
        Bar(f"{what}, {name}", f"convergence-{name}{schedule}", FASTER, must, wish)
        for schedule, what, must, wish in (
            ("", "to the ELBO of 200 epochs", 100, 300),
            ("-stopping", "to the ELBO of 50 epochs of warm-up and early stopping", 20, 60),
        )
        for name in ("pbmc", "simulated")
    ),
    Bar(
        "50,000 cells x 30,000 genes, upload to latent",
        "large", ("shapes", "wide", "seconds"), 45, 25, "s",
    ),
    Bar("1,000,000 x 2,000, upload to latent", "large", ("shapes", "1M", "seconds"), 360, 180, "s"),
    Bar("the same, peak of a process", "large", ("shapes", "1M", "peak_mb"), 2048, 1024, "MiB"),
    Bar(
        "96 samples x 5,000 cells, one worker",
        "plates", ("submitted together", "seconds"), 360, 180, "s", PLATE,
    ),
    Bar("warm service, 1,000 cells, upload to result", "warm", ("upload_to_result",), 2, 1, "s"),
    Bar("the same, 202 to the first step", "warm", ("accepted_to_first_step",), 0.3, None, "s"),
)  # fmt: skip
