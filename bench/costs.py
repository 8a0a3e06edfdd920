"""What the seconds of each benchmark consist of, and so which part is the next to shorten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.bars import Results

Parts = dict[str, float]
"""Seconds by name; together they are the whole."""


def costs(results: Results) -> Iterator[tuple[str, Parts]]:
    """What was measured, and its parts, the longest first."""
    for what, parts in _all(results):
        yield what, dict(sorted(parts.items(), key=lambda part: -part[1]))


def _all(results: Results) -> Iterator[tuple[str, Parts]]:
    for name, told in results.items():
        if name.startswith("convergence-") and told["reached"]:
            yield f"`{name}`, to their ELBO", _convergence(told)
    if "warm" in results:
        steps = results["warm"]["steps"]
        yield "`warm`", {name: each["median"] for name, each in steps.items()}
    if "plates" in results:
        yield "`plates`, seconds of all mappings", dict(_plate(results["plates"]))
    for name, told in results.get("large", {}).get("shapes", {}).items():
        yield f"`large`, {name}", dict(told["stages"])


def _convergence(told: Mapping[str, Any]) -> Parts:
    parts = {name: each["median"] for name, each in told["cellgraft"]["parts"].items()}
    n_epochs = told["reached"]["epochs"]
    return {
        "projecting": parts["projecting"],
        "before the first step": parts["before the first step"],
        f"steps, {n_epochs} epoch{'s' * (n_epochs > 1)}": n_epochs * parts["an epoch"],
    }


def _plate(told: Mapping[str, Any]) -> Parts:
    return dict(told.get("submitted together", {}).get("sums", {}))
