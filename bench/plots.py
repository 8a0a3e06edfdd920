"""Plots of what the benchmarks found, for docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.bars import Results
from bench.costs import costs

OURS, THEIRS = "#0b6e99", "#d1802a"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "figure.dpi": 110,
}


def draw_all(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mpl.use("agg")
    with mpl.rc_context(STYLE):
        for name, draw in PLOTS.items():
            if names := shown(name, results):
                draw({each: results[each] for each in names}, folder / f"{name}.png")


def shown(plot: str, results: Results) -> list[str]:
    """The benchmarks that a plot has figures of."""
    return [name for name in results if name.startswith(SOURCES[plot])]


def _convergence(results: Results, path: Path) -> None:
    for ax, (name, told) in zip(_panels(len(results), 3.2), results.items(), strict=True):
        for side, label, colour in (
            (told["scvi-tools"], "scvi-tools", THEIRS),
            (told["cellgraft"], "Cellgraft", OURS),
        ):
            points = [point for point in side["curve"] if point[1] > 0]
            seconds, elbos = [point[1] for point in points], [point[2] for point in points]
            ax.plot(seconds, elbos, "o-", color=colour, label=label, markersize=3)
        ax.axhline(told["scvi-tools"]["elbo"], color=THEIRS, linestyle=":", linewidth=1)
        ax.set(xscale="log", xlabel="seconds of training", ylabel="held-out ELBO", title=name)
        ax.legend(loc="lower right")
    _save(path)


def _epochs(results: Results, path: Path) -> None:
    (ax,) = _panels(1, 0.9 + 0.7 * len(results))
    for at, told in enumerate(results.values()):
        sides = (("scvi-tools", -0.18, THEIRS), ("Cellgraft", 0.18, OURS))
        for side, offset, colour in sides:
            found = told[side.lower()]
            spread = [[found["median"] - found["min"]], [found["max"] - found["median"]]]
            ax.barh(
                at + offset, found["median"], 0.34, xerr=spread, color=colour, capsize=3,
                label=side if at == 0 else None,
            )  # fmt: skip
        ax.text(told["scvi-tools"]["max"], at - 0.18, f"  {told['times_faster']}x", va="center")
    ax.set_yticks(range(len(results)), list(results))
    ax.invert_yaxis()
    ax.set(xlabel="seconds per epoch: median, least and most")
    ax.legend(loc="lower right")
    _save(path)


def _sizes(results: Results, path: Path) -> None:
    shapes: Mapping[str, Any] = results["large"]["shapes"]
    series = sorted((each for name, each in shapes.items() if name != "wide"), key=_n_cells)
    stages = sorted(series[-1]["stages"], key=lambda stage: -series[-1]["stages"][stage])
    cells = [_n_cells(each) for each in series]
    (ax,) = _panels(1, 3.6)
    ax.plot(cells, [each["seconds"] for each in series], "o-", color="black", label="whole")
    for stage in stages[:6]:
        seconds = [max(each["stages"][stage], 0.01) for each in series]
        ax.plot(cells, seconds, "o-", label=stage, markersize=3)
    ax.set(xscale="log", yscale="log", xlabel="cells, 2,000 genes", ylabel="seconds")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    _save(path)


def _parts(results: Results, path: Path) -> None:
    found = list(costs(results))
    (ax,) = _panels(1, 0.8 + 0.45 * len(found))
    for at, (_, parts) in enumerate(found):
        left, whole = 0.0, sum(parts.values())
        for rank, (name, seconds) in enumerate(parts.items()):
            share = seconds / whole
            ax.barh(at, share, 0.7, left, color=OURS, alpha=max(0.12, 0.9 - 0.22 * rank))
            if share > 0.012 * len(name):
                ink = "black" if rank else "white"
                ax.text(left + share / 2, at, name, color=ink, ha="center", va="center", fontsize=7)
            left += share
    ax.set_yticks(range(len(found)), [what.replace("`", "") for what, _ in found])
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of the seconds")
    _save(path)


PLOTS: dict[str, Callable[[Results, Path], None]] = {
    "convergence": _convergence,
    "epochs": _epochs,
    "sizes": _sizes,
    "parts": _parts,
}
SOURCES: dict[str, tuple[str, ...]] = {
    "convergence": ("convergence-",),
    "epochs": ("epochs-",),
    "sizes": ("large",),
    "parts": ("convergence-", "warm", "plates", "large"),
}
"""How the names of the benchmarks begin that a plot is made of."""


def _panels(n: int, height: float) -> Iterator[Axes]:
    rows = -(-n // 2)
    figure, axes = plt.subplots(
        rows, min(n, 2), figsize=(8.4, height * rows), squeeze=False, layout="constrained"
    )
    for unused in axes.flat[n:]:
        figure.delaxes(unused)
    return iter(axes.flat[:n])


def _n_cells(told: Mapping[str, Any]) -> int:
    return int(told["n_cells"])


def _save(path: Path) -> None:
    plt.savefig(path, metadata={"Software": None})
    plt.close()
