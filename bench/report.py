"""docs/performance.md and its plots, made of the figures in bench/results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import sections
from bench.bars import BARS, Results
from bench.measure import RESULTS

PAGE = Path("docs/performance.md")
PLOTS = Path("docs/performance")
BEGIN, END = "<!-- begin: made by `make bench` -->", "<!-- end: made by `make bench` -->"
PARTS: tuple[tuple[str, str | None, Callable[[Results], Iterator[str]]], ...] = (
    ("The bars", None, sections.bars),
    ("Time to the ELBO that scvi-tools ends at", "convergence", sections.convergence),
    ("Seconds per epoch", "epochs", sections.epochs),
    ("Time against cells", "sizes", sections.sizes),
    ("Which term is next", "parts", sections.next_terms),
    ("Where cells land", None, sections.landings),
    ("Where and when", None, sections.machines),
)
"""A heading, the plot below it, and its table."""


def run() -> None:
    from bench.plots import draw_all

    results = read(RESULTS)
    draw_all(results, PLOTS)
    PAGE.write_text(renewed(PAGE.read_text(), results))


def read(folder: Path) -> Results:
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    return dict(sorted(found.items()))


def renewed(page: str, results: Results) -> str:
    """The page with what stands between its marks made anew."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{figures(results)}\n{END}{after}"


def figures(results: Results) -> str:
    parts = []
    for heading, plot, section in PARTS:
        lines = list(section(results))
        if any(line.startswith(("| ", "###")) for line in lines[2:]):
            image = [f"![{heading}](performance/{plot}.png)", ""] if plot else []
            parts.append("\n".join([f"## {heading}", "", *image, *lines]).rstrip() + "\n")
    absent = ", ".join(f"`{name}`" for name in missing(results))
    if absent:
        parts.append(f"No figures here yet, as these have not been run: {absent}.\n")
    return "\n".join(parts)


def missing(results: Results) -> list[str]:
    """Benchmarks with a bar that left nothing."""
    return [name for name in dict.fromkeys(bar.benchmark for bar in BARS) if name not in results]
