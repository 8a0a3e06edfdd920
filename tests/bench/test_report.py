"""docs/performance.md is what the report makes of the figures in bench/results."""

from __future__ import annotations

import re

from bench import plots, report
from bench.kept_slices import means_by_side
from bench.report import BEGIN, END
from tests.frame.documents import ROOT

PAGE = (ROOT / report.PAGE).read_text()
RESULTS = report.read(ROOT / "bench" / "results")
SPREAD = {"median": 2.0, "min": 1.0, "max": 3.0}
FOUND = {"at": "2026-11-26T18:02:24Z", "cores": 2, "load": 0.51, "machine": "x86_64"}
WARM = {
    "upload_to_result": SPREAD,
    "accepted_to_first_step": {"median": 0.25, "min": 0.2, "max": 0.4},
    "steps": {"a - b": {"median": 0.5}, "b - c": {"median": 1.5}},
}


def test_page_tells_the_figures_as_they_are_kept() -> None:
    assert report.renewed(PAGE, RESULTS) == PAGE


def test_plots_of_the_page_are_there() -> None:
    linked = re.findall(r"\(performance/([a-z]+\.png)\)", PAGE)
    assert sorted(linked) == sorted(path.name for path in (ROOT / report.PLOTS).glob("*.png"))


def test_only_what_stands_between_the_marks_is_made_anew() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    made = report.renewed(page, {})
    assert made.startswith(f"before\n{BEGIN}\n")
    assert made.endswith(f"{END}\nafter\n")
    assert "old" not in made
    assert report.renewed(made, {}) == made


def test_benchmarks_without_figures_are_named() -> None:
    assert "large" in report.missing({})
    assert "`large`" in report.figures({})
    assert "warm" not in report.missing({"warm": FOUND | WARM})


def test_figures_of_one_benchmark_alone_make_a_page() -> None:
    made = report.figures({"warm": FOUND | WARM})
    assert "| `warm` | 2 s | 1 s | 2.00 s (1.00 to 3.00) | met |" in made
    assert "| `warm` | 2.00 s | **b - c**, 1.50 s (75%) | a - b 25% |" in made
    assert "performance/parts.png" in made
    assert "performance/epochs.png" not in made


def test_where_cells_land_is_told_over_seeds() -> None:
    slices = {
        f"seed {seed}, Cellgraft": {"forward": {"mixing": mixing}, "building": {"epochs": 40}}
        for seed, mixing in enumerate((0.5, 0.7))
    }
    made = report.figures({"peaks": FOUND | {"slices": slices}})
    assert "|  | seeds | mixing | epochs |" in made
    assert "| Cellgraft, forward | 2 | 0.600 (0.500 to 0.700) |  |" in made
    assert "| Cellgraft, building | 2 |  | 40 |" in made


def test_means_of_sides_are_over_the_seeds_that_all_have() -> None:
    """A seed is another split, so means over other seeds cannot be compared."""
    slices = {
        "seed 0, Cellgraft": {"forward": {"mixing": 0.5}},
        "seed 0, scvi-tools": {"surgery": {"mixing": 0.4}},
        "seed 1, Cellgraft": {"forward": {"mixing": 0.9}},
    }
    assert means_by_side(slices) == {
        "Cellgraft, forward": {"seeds": 1, "mixing": 0.5},
        "scvi-tools, surgery": {"seeds": 1, "mixing": 0.4},
    }


def test_every_benchmark_with_a_plot_is_drawn(tmp_path) -> None:

    epochs = {"scvi-tools": SPREAD, "cellgraft": SPREAD, "times_faster": 1.0}
    plots.draw_all({"warm": FOUND | WARM, "epochs-nb": FOUND | epochs}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epochs.png", "parts.png"]
