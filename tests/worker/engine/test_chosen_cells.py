"""A mapping of chosen cells equals the mapping of a file that holds only these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.cell_filters import parse_clauses, read_clauses
from app.problems import Problem, UnfitCellFilter, UnknownDesignColumn
from tests.worker.engine.simulated import Reference, Simulated, nothing, simulate, write_canonical
from tests.worker.engine.test_mapping import FILES, order
from worker.canonical import CanonicalQuery
from worker.chosen_cells import kept_cells, write_chosen
from worker.mapping import run_mapping
from worker.reference_cache import ReferenceCache


def map_cells(reference: Reference, folder: Path, cells: Simulated, **options: Any) -> Any:
    folder.mkdir()
    ordered = order(reference, folder, cells, **options)
    return run_mapping(ordered, ReferenceCache(), nothing), ordered.out


@pytest.mark.parametrize(
    "clauses",
    [
        [{"column": "batch", "not_in": ["d"]}],
        [{"column": "age", "min": -0.4, "max": 1.2}, {"column": "plate", "in": ["p2"]}],
    ],
)
def test_chosen_cells_are_mapped_as_if_they_had_been_uploaded_alone(
    recommended: Reference, tmp_path: Path, clauses: list[dict[str, Any]]
) -> None:
    cells = simulate({"c": 60, "d": 50, "e": 40}, seed=3)
    kept = kept_cells(cells.obs, read_clauses(clauses))
    assert 0 < kept.sum() < 150
    filtered, out = map_cells(recommended, tmp_path / "filtered", cells, cell_filter=clauses)
    alone, only = map_cells(recommended, tmp_path / "alone", cells.take(np.flatnonzero(kept)))
    assert {path.name for path in out.iterdir()} == FILES
    for name in FILES - {"provenance.json"}:
        assert (out / name).read_bytes() == (only / name).read_bytes(), name
    assert (filtered["n_cells"], filtered["cell_filter"]["n_cells"]) == (kept.sum(), 150)
    assert filtered["cell_filter"]["n_kept"] == kept.sum()
    assert alone["cell_filter"] is None
    latent = pd.read_parquet(out / "latent.parquet")
    assert list(latent.index) == list(cells.obs.index[kept])
    told = json.loads((out / "provenance.json").read_text())
    assert told["cell_filter"] == filtered["cell_filter"]
    assert told["cell_filter"]["clauses"] == clauses
    assert told["options"]["cell_filter"] == clauses


def test_a_chosen_query_is_what_intake_would_have_written(tmp_path: Path) -> None:
    cells = simulate({"c": 30, "d": 20}, seed=5)
    cells.counts.data[cells.counts.indptr[3] : cells.counts.indptr[5]] = 0
    cells.counts.eliminate_zeros()
    whole = write_canonical(tmp_path / "whole", cells)
    kept = np.random.default_rng(0).random(50) < 0.6
    kept[2:6] = True
    write_chosen(whole, kept, tmp_path / "chosen")
    expected = write_canonical(tmp_path / "expected", cells.take(np.flatnonzero(kept)))
    chosen = CanonicalQuery.open(tmp_path / "chosen")
    for name in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(chosen, name), getattr(expected, name))
    pd.testing.assert_frame_equal(chosen.obs(), expected.obs())
    assert chosen.gene_columns() == expected.gene_columns()


OBS = pd.DataFrame(
    {
        "c": pd.Categorical(["a", "b", None, "a"]),
        "n": pd.array([1, 2, None, 10], dtype="Int64"),
        "x": [0.5, np.nan, 2.0, 3.0],
        "t": ["1", "2", "x", None],
        "f": [True, False, True, True],
    }
)


@pytest.mark.parametrize(
    ("clause", "kept"),
    [
        ({"column": "c", "in": ["a"]}, "1001"),
        ({"column": "c", "not_in": ["a"]}, "0110"),
        ({"column": "c", "not_in": ["a"], "missing": False}, "0100"),
        ({"column": "c", "missing": True}, "0010"),
        ({"column": "c", "missing": False}, "1101"),
        ({"column": "n", "in": [1, "10"]}, "1001"),
        ({"column": "n", "in": [1.0]}, "1000"),
        ({"column": "n", "min": 2}, "0101"),
        ({"column": "n", "max": 2}, "1100"),
        ({"column": "n", "min": 2, "max": 2}, "0100"),
        ({"column": "x", "min": 2}, "0011"),
        ({"column": "x", "in": [2, 3]}, "0011"),
        ({"column": "t", "max": 1}, "1000"),
        ({"column": "f", "in": [True]}, "1011"),
        ({"column": "f", "in": ["False"]}, "0100"),
    ],
)
def test_what_a_clause_keeps(clause: dict[str, Any], kept: str) -> None:
    found = kept_cells(OBS, read_clauses(clause))
    assert "".join(str(int(each)) for each in found) == kept


def test_a_filter_that_keeps_nothing_tells_the_numbers() -> None:
    clauses = [{"column": "c", "in": ["a"]}, {"column": "n", "in": [2]}]
    with pytest.raises(UnfitCellFilter, match="none of the query's 4 cells: 2 by") as caught:
        kept_cells(OBS, read_clauses(clauses))
    assert "1 by" in caught.value.detail
    assert [error["pointer"] for error in caught.value.errors] == ["/obs/c", "/obs/n"]


@pytest.mark.parametrize(
    ("clause", "kind", "said"),
    [
        ({"column": "g", "in": ["a"]}, UnknownDesignColumn, "c, n, x, t, f"),
        ({"column": "c", "min": 1}, UnfitCellFilter, "holds none"),
    ],
)
def test_a_filter_that_does_not_fit(clause: dict[str, Any], kind: type[Problem], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        kept_cells(OBS, read_clauses(clause))
    assert caught.value.errors[0]["pointer"] == f"/obs/{clause['column']}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"column": "a"}',
        '{"column": "a", "in": []}',
        '{"column": "", "in": ["x"]}',
        '{"column": "a", "in": "x"}',
        '{"column": "a", "in": [null]}',
        '{"column": "a", "in": [["x"]]}',
        '{"column": "a", "eval": "1"}',
        '{"column": "a", "min": "x"}',
        '{"column": "a", "min": NaN}',
        '{"column": "a", "max": Infinity}',
        '{"column": "a", "min": 2, "max": 1}',
        '{"column": "a\\u0000", "in": ["x"]}',
        '{"column": "a", "in": ["\\ud800"]}',
        "a == 1",
        "[" * 5000,
        "[" + ",".join(['{"column": "a", "missing": true}'] * 33) + "]",
    ],
)
def test_what_is_no_filter(text: str) -> None:
    with pytest.raises(ValueError, match=r"takes JSON|NUL"):
        parse_clauses(text)
