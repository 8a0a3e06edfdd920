"""Whether mappings meet their bars, from the slices of `bench.accuracy`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Slices = Mapping[str, Any]
Table = dict[str, dict[str, Any]]

THEIRS = ("200 epochs", "early stopping")
ITSELF = "scvi-tools itself"
SMALLEST_BAR, SMALL_QUERY_BAR = 0.01, 0.01
POOLED_ERROR_BAR, MIXING_BAR, RESPONSE_BAR = 0.95, 0.9, 0.95

WHAT = (
    "Macro-F1 and error: weighted 15-NN from the reference. Mixing: share of reference cells among "
    "30 neighbours, relative to chance. `default` is the release's. `200 epochs` and `early "
    "stopping` are scvi-tools itself on the same weights where it ran, which its own slices tell, "
    "else its schedules stepped by our engine. References train for about 800 steps."
)


def summary(slices: Slices) -> dict[str, Any]:
    """Tables by scenario, and the same in short lines."""
    ways = _ways(slices)
    labelled = {name: seeds for name, seeds in ways.items() if "macro_f1" in seeds[0]["default"]}
    labels = {name: _labels(seeds) for name, seeds in labelled.items()}
    real = {name: seeds for name, seeds in labelled.items() if "simulated" not in name}
    tables: dict[str, Table] = {
        "labels": labels,
        "pooled_error": {
            which: _pooled(of, labels)
            for which, of in (("real sets", real), ("all", labelled))
            if of
        },
        "mixing": {
            name: _mixing(seeds) for name, seeds in ways.items() if "mixing" in seeds[0]["default"]
        },
        "response": _response(ways, _by_scenario(slices, "together")),
        "small_queries": _small(_by_scenario(slices, "small")),
        "many_batches": _batches(_by_scenario(slices, "batches")),
        "scvi_tools_itself": _itself(slices),
    }
    return {**tables, "lines": list(_lines(tables))}


def _ways(slices: Slices) -> dict[str, list[dict[str, Any]]]:
    """Every way, seed by seed; scvi-tools' own figures stand before those that we stepped."""
    stepped = {
        at: figures | slices.get(f"{at.removesuffix('ways')}{ITSELF}", {})
        for at, figures in slices.items()
        if at.endswith(", ways")
    }
    return _by_scenario(stepped, "ways")


def _by_scenario(slices: Slices, part: str) -> dict[str, list[dict[str, Any]]]:
    """What was found, seed by seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for (name, _seed, of), figures in sorted(
        ((at.split(", "), figures) for at, figures in slices.items()), key=lambda kept: kept[0]
    ):
        if of == part and figures:
            found.setdefault(name, []).append(figures)
    return found


def _all(seeds: list[dict[str, Any]], way: str, figure: str) -> np.ndarray[Any, Any]:
    return np.array([each[way][figure] for each in seeds], dtype=float)


def _mean(seeds: list[dict[str, Any]], way: str, figure: str) -> float:
    return float(_all(seeds, way, figure).mean())


def _labels(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """`default` against the better of scvi-tools' schedules, paired by seed."""
    means = {way: round(_mean(seeds, way, "macro_f1"), 4) for way in seeds[0]}
    best = max(THEIRS, key=means.__getitem__)
    difference = _all(seeds, "default", "macro_f1") - _all(seeds, best, "macro_f1")
    n, mean = len(difference), float(difference.mean())
    error = float(difference.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    bar = max(SMALLEST_BAR, 2 * error)
    return {
        "macro_f1": means,
        "best_of_scvi_tools": best,
        "differences": [round(float(each), 4) for each in difference],
        "difference": round(mean, 4),
        "standard_error": round(error, 4),
        "bar": round(-bar, 4),
        "passes": mean >= -bar,
    }


def _pooled(seeds: Mapping[str, list[dict[str, Any]]], labels: Table) -> dict[str, Any]:
    """Errors over all scenarios, each weighing the same, and each cell weighing the same."""
    ours, theirs, n_wrong, n_theirs = 0.0, 0.0, 0.0, 0.0
    for name, found in seeds.items():
        best = labels[name]["best_of_scvi_tools"]
        of = _all(found, "default", "of")
        mine, others = _all(found, "default", "wrong"), _all(found, best, "wrong")
        ours, theirs = ours + float((mine / of).mean()), theirs + float((others / of).mean())
        n_wrong, n_theirs = n_wrong + mine.sum(), n_theirs + others.sum()
    return {
        "error": round(ours / len(seeds), 4),
        "error_of_scvi_tools": round(theirs / len(seeds), 4),
        "ratio": round(ours / theirs, 4),
        "ratio_by_cells": round(n_wrong / n_theirs, 4),
        "passes": ours <= POOLED_ERROR_BAR * theirs,
    }


def _mixing(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    ratios = _all(seeds, "default", "mixing") / _all(seeds, "forward", "mixing")
    return {
        "mixing": {way: round(_mean(seeds, way, "mixing"), 3) for way in seeds[0]},
        "ratios_to_forward": [round(float(ratio), 3) for ratio in ratios],
        "ratio": round(float(ratios.mean()), 3),
        "passes": float(ratios.mean()) >= MIXING_BAR,
    }


def _response(ways: Mapping[str, list[dict[str, Any]]], together: Mapping[str, Any]) -> Table:
    """Beside an scVI trained on all cells."""
    found: Table = {}
    for name in [name for name in together if name in ways]:
        mapped, trained = ways[name], [{"together": each} for each in together[name]]
        ratio = _mean(mapped, "default", "response") / _mean(trained, "together", "response")
        found[name] = {
            figure: {way: round(_mean(mapped, way, figure), 4) for way in mapped[0]}
            | {"trained together": round(_mean(trained, "together", figure), 4)}
            for figure in ("response", "mixing_of_controls")
        } | {"ratio": round(ratio, 4), "passes": ratio >= RESPONSE_BAR}
    return found


def _small(drawn: Mapping[str, list[dict[str, Any]]]) -> Table:
    """Means over all draws, by size."""
    found: Table = {}
    for name, seeds in drawn.items():
        for size in seeds[0]:
            draws = [draw for each in seeds for draw in each.get(size, []) if draw["default"]]
            if draws:
                found[f"{name}, {size} cells"] = _draws(draws)
    return found


def _draws(draws: list[dict[str, Any]]) -> dict[str, Any]:
    means = {way: round(_mean(draws, way, "macro_f1"), 4) for way in draws[0]}
    below = means["default"] - max(means["forward"], means["converged"])
    return {
        "draws": len(draws),
        "macro_f1": means,
        "difference": round(below, 4),
        "passes": below >= -SMALL_QUERY_BAR,
    }


def _batches(found: Mapping[str, list[dict[str, Any]]]) -> Table:
    """Means over seeds of a query's cells taken for batches of 30."""
    return {
        name: {
            "batches": max(seed["batches"] for seed in seeds),
            **{
                way: {figure: round(_mean(seeds, way, figure), 4) for figure in seeds[0][way]}
                for way in ("forward", "default", "converged")
            },
        }
        for name, seeds in found.items()
    }


def _itself(slices: Slices) -> Table:
    """How far our steps of their schedules are from theirs."""
    stepped, itself = (_by_scenario(slices, part) for part in ("ways", ITSELF))
    return {
        f"{name}, {way}": {
            figure: {
                "theirs": round(_mean(itself[name], way, figure), 4),
                "stepped by ours": round(_mean(stepped[name][: len(itself[name])], way, figure), 4),
            }
            for figure in ("macro_f1", "mixing", "response")
            if figure in itself[name][0][way]
        }
        for name in itself
        if name in stepped
        for way in THEIRS
    }


def _lines(tables: Mapping[str, Table]) -> Iterator[str]:
    for name, row in tables["labels"].items():
        yield (
            f"labels, {name}: default {row['macro_f1']['default']:.3f}, {row['best_of_scvi_tools']}"
            f" {row['macro_f1'][row['best_of_scvi_tools']]:.3f}, {row['difference']:+.4f} +- "
            f"{row['standard_error']:.4f} ({len(row['differences'])} seeds), {_verdict(row)}"
        )
    for name, row in tables["pooled_error"].items():
        yield f"pooled error, {name}: {row['ratio']} of scvi-tools', {_verdict(row)}"
    for name, row in tables["mixing"].items():
        yield f"mixing, {name}: {row['ratio']} of forward's, {_verdict(row)}"
    for name, row in tables["response"].items():
        controls = row["mixing_of_controls"]
        yield (
            f"response, {name}: {row['ratio']} of that trained together, {_verdict(row)}; controls "
            f"mix {controls['default']}, trained together {controls['trained together']}"
        )
    for name, row in tables["many_batches"].items():
        told = ", ".join(
            f"{way} {row[way].get('macro_f1', 0):.3f} / {row[way].get('mixing', 0):.2f} "
            f"({row[way]['seconds']:.0f} s)"
            for way in ("forward", "default", "converged")
        )
        yield f"{row['batches']} batches of 30, {name}: {told}"
    for name, row in tables["small_queries"].items():
        yield f"small, {name}: {row['difference']:+.4f} ({row['draws']} draws), {_verdict(row)}"


def _verdict(row: Mapping[str, Any]) -> str:
    return "passes" if row["passes"] else "FAILS"
