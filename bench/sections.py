"""The parts of docs/performance.md that are made of figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean
from typing import Any

from bench.bars import BARS, Results
from bench.costs import costs
from bench.kept_slices import by_side

UNITS = {"times": "x", "s": " s", "MiB": " MiB"}
SIDES = ("scvi-tools", "cellgraft")
LANDINGS = {
    "multivi": (
        "MULTIVI: held-out cells, each mapped three times, by its RNA alone, its chromatin alone "
        "and by both. Mixing: share of the 30 neighbours that were measured another way, over "
        "chance. Nearer: share of other cells that are nearer to a cell than it is to itself, "
        "measured another way; 0.5 is chance. Dropout is 0.2 on both sides; of scvi-tools' surgery "
        "200 of its 500 epochs were run. Seconds are of a busy machine."
    ),
    "peaks": (
        "PEAKVI and POISSONVI: held-out cells, mapped as a batch of their own. Mixing: share of "
        "the reference's cells among the 30 neighbours, over chance. Held-out reconstruction: "
        "nats a cell, less is better; scvi-tools stops by the same cells."
    ),
}
"""Benchmarks of where cells land, and what their figures are."""


def bars(results: Results) -> Iterator[str]:
    rows = []
    for bar in BARS:
        unit, figure = UNITS[bar.unit], bar.figure(results)
        wish = "" if bar.wish is None else f"{bar.wish:g}{unit}"
        told = "" if figure is None else _spread(figure, unit)
        name = f"`{bar.benchmark}`"
        rows.append((bar.what, name, f"{bar.must:g}{unit}", wish, told, bar.verdict(figure)))
    yield from _table(("", "benchmark", "bar", "stretch", "measured", ""), rows)


def convergence(results: Results) -> Iterator[str]:
    """Each side at the same numbers of epochs."""
    for name, told in _named(results, "convergence-"):
        theirs, ours, recipe = told["scvi-tools"], told["cellgraft"], told["recipe"]
        yield f"### `{name}`\n"
        yield (
            f"{told['n_cells']:,} training cells, {told['n_genes']:,} genes, "
            f"{told['n_held_out']:,} held-out cells; ours in minibatches of "
            f"{recipe['minibatch_size']} at learning rate {recipe['learning_rate']:g}. "
            f"scvi-tools: {theirs['epochs']} epochs, "
            f"{number(theirs['seconds'])} s, ELBO {theirs['elbo']:.2f}. {_reached(told)} "
            f"It stops by itself after {ours['epochs']} epochs, "
            f"{_spread(ours['seconds'], ' s')}, ELBO {ours['elbo']:.2f}.\n"
        )
        sides = [{int(epoch): point for epoch, *point in side["curve"]} for side in (theirs, ours)]
        yield from _table(
            ("epoch", "scvi-tools, s", "ELBO", "Cellgraft, s", "ELBO"),
            (
                (f"{epoch}", *(cell for side in sides for cell in _point(side.get(epoch))))
                for epoch in sorted(set(sides[0]) | set(sides[1]))
            ),
        )
        yield ""


def epochs(results: Results) -> Iterator[str]:
    yield from _table(
        ("benchmark", "scvi-tools", "Cellgraft", "times faster"),
        (
            (f"`{name}`", *(_spread(told[side], " s") for side in SIDES), f"{told['times_faster']}")
            for name, told in _named(results, "epochs-")
        ),
    )


def sizes(results: Results) -> Iterator[str]:
    """Seconds of each stage by number of cells."""
    shapes = sorted(
        results.get("large", {}).get("shapes", {}).items(), key=lambda shape: shape[1]["n_cells"]
    )
    if not shapes:
        return
    stages = list(shapes[0][1]["stages"])
    rows = [
        ("cells", *(f"{told['n_cells']:,}" for _, told in shapes)),
        *((stage, *(number(told["stages"][stage]) for _, told in shapes)) for stage in stages),
        ("**seconds**", *(number(told["seconds"]) for _, told in shapes)),
        ("peak of a process, MiB", *(f"{told['peak_mb']:,}" for _, told in shapes)),
    ]
    yield from _table(("", *(name for name, _ in shapes)), rows)


def next_terms(results: Results) -> Iterator[str]:
    rows = []
    for what, parts in costs(results):
        whole = sum(parts.values())
        first, *others = ((name, s) for name, s in parts.items() if s >= 0.005 * whole)
        rows.append(
            (
                what,
                f"{number(whole)} s",
                f"**{first[0]}**, {number(first[1])} s ({first[1] / whole:.0%})",
                ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in others[:4]),
            )
        )
    yield from _table(("", "whole", "next term", "then"), rows)


def landings(results: Results) -> Iterator[str]:
    """Means over seeds, with the least and the most."""
    for name, what in LANDINGS.items():
        if name not in results:
            continue
        sides = by_side(results[name]["slices"])
        columns = list(dict.fromkeys(each for seeds in sides.values() for each in seeds[0]))
        yield f"### `{name}`\n"
        yield f"{what}\n"
        yield from _table(
            ("", "seeds", *(column.replace("_", " ") for column in columns)),
            (
                (side, f"{len(seeds)}", *(_over_seeds(seeds, column) for column in columns))
                for side, seeds in sides.items()
            ),
        )
        yield ""


def machines(results: Results) -> Iterator[str]:
    rows = []
    for name, told in results.items():
        versions = ", ".join(f"{what} {v}" for what, v in told.get("versions", {}).items())
        processor = f"{told.get('processor') or told['machine']}, {told['cores']} cores"
        rows.append((f"`{name}`", told["at"][:10], processor, f"{told['load']:.1f}", versions))
    yield from _table(("benchmark", "date", "processor", "load", "versions"), rows)


def number(value: float) -> str:
    """To three digits, whatever its size."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _reached(told: Mapping[str, Any]) -> str:
    if told["reached"] is None:
        return "Cellgraft does not get there."
    n_epochs, seconds = told["reached"]["epochs"], told["reached"]["seconds"]
    many = "epoch" if n_epochs == 1 else "epochs"
    return f"Cellgraft is there after {n_epochs} {many}, {_spread(seconds, ' s')}."


def _spread(figure: Any, unit: str) -> str:
    if not isinstance(figure, Mapping):
        return f"{number(figure)}{unit}"
    low, high = number(figure["min"]), number(figure["max"])
    return f"{number(figure['median'])}{unit} ({low} to {high})"


def _over_seeds(seeds: list[Mapping[str, float]], column: str) -> str:
    values = [seed[column] for seed in seeds if column in seed]
    if not values:
        return ""
    mean, low, high = (
        f"{value:.0f}" if value % 1 == 0 else f"{value:,.1f}" if value >= 100 else number(value)
        for value in (fmean(values), min(values), max(values))
    )
    return mean if low == high else f"{mean} ({low} to {high})"


def _point(point: list[float] | None) -> tuple[str, str]:
    return ("", "") if point is None else (number(point[0]), f"{point[1]:.2f}")


def _named(results: Results, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((name, told) for name, told in results.items() if name.startswith(prefix))


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    columns = list(header)
    yield "| " + " | ".join(columns) + " |"
    yield "| --- " + "| ---: " * (len(columns) - 1) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
