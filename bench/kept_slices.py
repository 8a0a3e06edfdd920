"""Slices of a benchmark, of one set, seed or side each, kept as they end.

With RESUME set, those that an earlier call kept are not done again.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.measure import RESULTS, described

Slices = Mapping[str, Any]


class KeptSlices:
    """What was found, by slice; `bench/results/NAME.json` holds it beside its summary."""

    def __init__(self, name: str, summary: Callable[[Slices], dict[str, Any]]) -> None:
        self.name, self.summary = name, summary
        self._path = RESULTS / f"{name}.json"
        goes_on = self._path.exists() and "RESUME" in os.environ
        self.found: dict[str, Any] = json.loads(self._path.read_text())["slices"] if goes_on else {}

    def add(self, at: str, find: Callable[[], Any]) -> None:
        """Find this slice, unless it is there."""
        if at in self.found:
            return
        began = time.monotonic()
        self.found[at] = find()
        self._keep()
        seconds = time.monotonic() - began
        sys.stdout.write(f"{self.name}: {at} ({seconds:.0f} s): {json.dumps(self.found[at])}\n")
        sys.stdout.flush()

    def _keep(self) -> None:
        """Whole or not at all, should the call be broken off."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        figures = described(self.name, {**self.summary(self.found), "slices": self.found})
        part = self._path.with_suffix(".json.part")
        part.write_text(json.dumps(figures, indent=1) + "\n")
        part.replace(self._path)


def by_side(slices: Slices) -> dict[str, list[Mapping[str, float]]]:
    """Figures of each seed by `SIDE, way`, of slices `seed N, SIDE` that hold figures by way.

    A seed is another split, so means compare only over the same ones: seeds that lack a side are
    left out where others have them all.
    """
    seeds: dict[str, dict[str, Mapping[str, Any]]] = {}
    for at, ways in sorted(slices.items()):
        seed, _, side = at.partition(", ")
        seeds.setdefault(seed, {})[side] = ways
    n_sides = max(len(sides) for sides in seeds.values())
    found: dict[str, list[Mapping[str, float]]] = {}
    for sides in seeds.values():
        if len(sides) == n_sides:
            for side, ways in sides.items():
                for way, figures in ways.items():
                    found.setdefault(f"{side}, {way}", []).append(figures)
    return found


def means_by_side(slices: Slices) -> dict[str, Any]:
    """Means over seeds, and how many, of slices as `by_side` takes them."""
    return {
        name: {"seeds": len(seeds)}
        | {each: round(statistics.mean(seed[each] for seed in seeds), 4) for each in seeds[0]}
        for name, seeds in by_side(slices).items()
    }
