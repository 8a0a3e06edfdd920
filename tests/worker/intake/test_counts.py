"""Raw counts are found where they are, recovered where that can be proved, and else refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from app.problems import Problem
from worker.canonical import CanonicalQuery
from worker.intake.frames import FrameWriter
from worker.intake.receiver import Receiver

from . import files, transformed
from .transformed import cells, log_normalised

Check = Callable[..., tuple[dict[str, Any], CanonicalQuery]]


def stored(query: CanonicalQuery) -> np.ndarray:
    return query.rows(0, query.n_cells).toarray()


def refusal(check: Check, path: Path, **request: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        check(path, **request)
    return caught.value


def add_numbers(path: Path, name: str, values: np.ndarray) -> None:
    with h5py.File(path, "a") as file:
        file["obs"].create_dataset(name, data=values)
        file["obs"].attrs["column-order"] = ["sample", name]


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("base", ["e", "2", "10"])
@pytest.mark.parametrize("target", [1e4, 1e6, None])
@pytest.mark.parametrize("every", [1, 3])
def test_log_normalised_counts_are_recovered_exactly(
    layout: str,
    dtype: str,
    base: str,
    target: float | None,
    every: int,
    check: Check,
    tmp_path: Path,
) -> None:
    counts = cells()
    values = log_normalised(counts, base=base, target=target, dtype=dtype)[:, ::every]
    report, query = check(files.write_h5ad(tmp_path / "query.h5ad", values, layout))
    assert (stored(query) == counts[:, ::every]).all()
    assert report["counts_class"] == "log-normalised"
    assert report["recovered"]["base"] == base
    # A CSC matrix is turned in single precision.
    exact = dtype == "f8" and layout != "csc"
    assert report["recovered"]["max_error"] < (1e-12 if exact else 4e-6)
    assert report["recovered"]["undetermined_cells"] == 0
    assert "counts-recovered" in {each["code"] for each in report["problems"]}
    kept = json.loads((tmp_path / "canonical/canonical.json").read_text())
    assert kept["recovered"] == report["recovered"] == query.origin["recovered"]


def test_unsorted_log_normalised_counts_stay_with_their_genes(check: Check, tmp_path: Path) -> None:
    """As a product of sparse matrices leaves them: each cell's genes in no order."""
    counts = cells(seed=11)
    path = files.write_h5ad(tmp_path / "query.h5ad", log_normalised(counts))
    with h5py.File(path, "a") as file:
        ends = file["X/indptr"][...]
        for part in ("data", "indices"):
            rows = np.split(file["X"][part][...], ends[1:-1])
            file["X"][part][...] = np.concatenate([row[::-1] for row in rows])
    _, query = check(path)
    assert (stored(query) == counts).all()


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_empty_cells_at_the_beginning_hide_nothing(
    layout: str, check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = np.concatenate([np.zeros((100, 400)), cells(150, 400, seed=12)])
    path = files.write_h5ad(tmp_path / "query.h5ad", log_normalised(counts), layout)
    monkeypatch.setattr("worker.intake.dense.ENTRIES", 1000)  # bands of ten cells
    report, query = check(path)
    assert report["counts_class"] == "log-normalised"
    assert (stored(query) == counts).all()


def test_a_plain_logarithm_of_counts_is_recovered(check: Check, tmp_path: Path) -> None:
    counts = cells(seed=4)
    _, query = check(files.write_h5ad(tmp_path / "query.h5ad", np.log1p(counts.astype("f4"))))
    assert (stored(query) == counts).all()


def test_size_factors_of_any_kind_are_undone(check: Check, tmp_path: Path) -> None:
    counts = cells(seed=5)
    factors = np.random.default_rng(0).lognormal(0, 0.7, (len(counts), 1))
    path = files.write_h5ad(tmp_path / "query.h5ad", np.log2(counts / factors + 1))
    report, query = check(path)
    assert (stored(query) == counts).all()
    assert report["recovered"]["base"] == "2"


def test_very_deep_cells_are_recovered(check: Check, tmp_path: Path) -> None:
    counts = cells(60, 2000, seed=6, depth=400_000)
    _, query = check(files.write_h5ad(tmp_path / "query.h5ad", log_normalised(counts)))
    assert (stored(query) == counts).all()


def few_genes(counts: np.ndarray) -> np.ndarray:
    """Rows 10 to 20 express one or two genes, with counts that share a divisor."""
    counts = counts.copy()
    counts[10:20] = 0
    counts[10:20, 3] = 3
    counts[15:20, 7] = 6
    return counts


def test_cells_of_few_genes_are_told(check: Check, tmp_path: Path) -> None:
    counts = few_genes(cells())
    path = files.write_h5ad(tmp_path / "query.h5ad", log_normalised(counts))
    report, query = check(path)
    assert report["recovered"]["undetermined_cells"] == 10
    assert "undetermined-cells" in {each["code"] for each in report["problems"]}
    expected = counts.copy()
    expected[10:20] /= 3
    assert (stored(query) == expected).all()


@pytest.mark.parametrize("column", ["sum", "factor"])
def test_a_column_of_depths_decides_what_ratios_leave_open(
    column: str, check: Check, tmp_path: Path
) -> None:
    counts = few_genes(cells())
    sums = counts.sum(axis=1)
    path = files.write_h5ad(tmp_path / "query.h5ad", log_normalised(counts))
    add_numbers(path, "any_name", sums if column == "sum" else sums / np.median(sums))
    report, query = check(path)
    assert (stored(query) == counts).all()
    assert report["recovered"]["undetermined_cells"] == 0


def test_a_column_that_does_not_agree_decides_nothing(check: Check, tmp_path: Path) -> None:
    counts = cells()
    path = files.write_h5ad(tmp_path / "query.h5ad", log_normalised(counts))
    add_numbers(path, "n_counts", np.full(len(counts), 7.0))
    _, query = check(path)
    assert (stored(query) == counts).all()


@pytest.mark.parametrize("option", [None, "as-is", "round"])
@pytest.mark.parametrize("layout", ["csr", "dense"])
@pytest.mark.parametrize("name", transformed.REFUSED)
def test_what_is_no_counts_is_refused(
    name: str, layout: str, option: str | None, check: Check, tmp_path: Path
) -> None:
    code, make = transformed.REFUSED[name]
    values = make(cells(seed=7))
    if values.dtype == np.float16 and layout != "dense":
        values = values.astype("f4")  # scipy has no sparse matrices of half precision
    path = files.write_h5ad(tmp_path / "query.h5ad", values, layout)
    problem = refusal(check, path, counts=option)
    assert problem.type == "not-counts"
    assert code in {each["code"] for each in problem.errors}
    assert all(each["pointer"].startswith("/X") for each in problem.errors)


def test_there_are_enough_ways_to_be_no_counts() -> None:
    assert len(transformed.REFUSED) >= 30


@pytest.mark.parametrize("make", [transformed.soup, transformed.estimated])
def test_fractional_counts_are_taken_as_asked(
    make: Callable[[np.ndarray], np.ndarray], check: Check, tmp_path: Path
) -> None:
    values = make(cells(seed=8))
    path = files.write_h5ad(tmp_path / "query.h5ad", values)
    problem = refusal(check, path)
    (error,) = problem.errors
    assert error["code"] == "fractional-values"
    assert "counts=as-is" in error["fix"]
    assert "counts=round" in error["fix"]
    report, query = check(path, counts="as-is")
    assert (stored(query) == values).all()
    assert report["counts_class"] == query.counts_class == "count-like"
    assert [each["code"] for each in report["problems"]] == ["count-like"]
    report, query = check(path, counts="round")
    assert (stored(query) == np.rint(values)).all()
    assert query.rounded
    assert query.data.min() >= 1


def test_whole_counts_stay_what_they_are_whatever_is_asked(check: Check, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad", cells())
    report, query = check(path, counts="round")
    assert report["counts_class"] == "counts"
    assert report["problems"] == []
    assert (stored(query) == cells()).all()


def test_cells_thinned_to_one_depth_are_counts(check: Check, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(300), size=40)
    thinned = np.stack([rng.multinomial(10_000, each) for each in share])
    report, _ = check(files.write_h5ad(tmp_path / "query.h5ad", thinned))
    assert report["counts_class"] == "counts"


# Where counts are looked for


def with_matrices(path: Path, x: np.ndarray, **others: np.ndarray) -> Path:
    """`raw` becomes raw/X, any other name a layer."""
    files.write_h5ad(path, x)
    with h5py.File(path, "a") as file:
        for name, matrix in others.items():
            files.write_matrix(file, "raw/X" if name == "raw" else f"layers/{name}", matrix, "csr")
        if "raw" in others:
            index = files.names("gene", others["raw"].shape[1])
            files.write_frame(file["raw"], "var", index, [])
    return path


def searched(report: dict[str, Any]) -> dict[str, str]:
    return {each["matrix"]: each["class"] for each in report["searched"]}


COUNTS = cells(n_genes=120)
LOGS = log_normalised(COUNTS)
SCALED = LOGS - LOGS.mean(axis=0)
TPM_LOGS = np.log1p(transformed.tpm(COUNTS))
WHERE = {
    "a layer beside logarithms": ((LOGS, {"counts": COUNTS}), "layers/counts"),
    "a layer of another name": ((LOGS, {"UMI": COUNTS}), "layers/UMI"),
    "raw beside z-scores": ((SCALED, {"raw": COUNTS}), "raw/X"),
    "raw with more genes": ((COUNTS[:, :50], {"raw": COUNTS}), "raw/X"),
    "raw with more genes than a layer": (
        (LOGS[:, :50], {"counts": COUNTS[:, :50], "raw": COUNTS}),
        "raw/X",
    ),
    "X beside logarithms in raw": ((COUNTS, {"raw": LOGS}), "X"),
    "logarithms in raw beside z-scores": ((SCALED[:, :50], {"raw": LOGS}), "raw/X"),
    "logarithms in X beside those of TPM": ((LOGS, {"raw": TPM_LOGS}), "X"),
    "X beside a layer that is called counts and is none": ((COUNTS, {"counts": LOGS}), "X"),
    "X beside an empty layer": ((COUNTS, {"counts": 0 * COUNTS}), "X"),
    "X beside unspliced counts": ((COUNTS, {"unspliced": COUNTS + 1}), "X"),
    "X beside rounded CPM": (
        (COUNTS, {"counts": np.rint(transformed.cpm(cells(n_genes=120)))}),
        "X",
    ),
}


@pytest.mark.parametrize("where", WHERE)
def test_counts_are_found(where: str, check: Check, tmp_path: Path) -> None:
    (x, others), expected = WHERE[where]
    report, query = check(with_matrices(tmp_path / "query.h5ad", x, **others))
    assert report["counts_from"] == query.counts_from == expected
    n_genes = {"X": x.shape[1], "raw/X": COUNTS.shape[1]}.get(expected, COUNTS.shape[1])
    assert (stored(query) == COUNTS[:, :n_genes]).all()
    assert len(query.gene_columns()["index"]) == n_genes
    assert expected in searched(report)
    assert all(each["reason"] for each in report["searched"])


def test_a_named_matrix_is_never_replaced(check: Check, tmp_path: Path) -> None:
    path = with_matrices(tmp_path / "query.h5ad", TPM_LOGS, counts=COUNTS)
    problem = refusal(check, path, layer="X")
    assert {each["code"] for each in problem.errors} == {"log-normalised"}
    assert "layer=layers/counts" in problem.fix
    assert problem.inspection is not None
    assert searched(problem.inspection) == {"X": "log-normalised"}


def test_the_likeliest_matrix_is_the_one_refused(check: Check, tmp_path: Path) -> None:
    """Fractional counts could be taken; z-scores could not."""
    path = with_matrices(tmp_path / "query.h5ad", SCALED, counts=transformed.soup(COUNTS, 0.05))
    problem = refusal(check, path)
    assert [(e["code"], e["pointer"]) for e in problem.errors] == [
        ("fractional-values", "/layers/counts/data")
    ]
    assert problem.inspection is not None
    assert searched(problem.inspection) == {
        "layers/counts": "count-like",
        "X": "negative-values",
    }
    report, _ = check(path, counts="as-is")
    assert report["counts_from"] == "layers/counts"


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few thousand rows are then more than is looked at first."""
    monkeypatch.setattr("worker.intake.sparse.ENTRIES", 40_000)


@pytest.mark.usefixtures("small_blocks")
def test_a_matrix_that_proves_to_be_no_counts_late_gives_way(check: Check, tmp_path: Path) -> None:
    wide = cells(2500, 500, seed=11)
    path = with_matrices(
        tmp_path / "query.h5ad", log_normalised(wide), counts=np.vstack([wide[:-1], wide[-1:] / 3])
    )
    report, query = check(path)
    assert report["counts_from"] == "X"
    assert (stored(query) == wide).all()
    assert searched(report) == {"layers/counts": "fractional-values", "X": "log-normalised"}


def test_the_sandbox_begins_again_too(
    sandboxed: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    wide = cells(6000, 500, seed=11)
    path = with_matrices(
        tmp_path / "query.h5ad", log_normalised(wide), counts=np.vstack([wide[:-1], wide[-1:] / 3])
    )
    assert sandboxed(path)["counts_from"] == "X"
    query = CanonicalQuery.open(tmp_path / "canonical")
    assert (stored(query) == wide).all()


@pytest.mark.usefixtures("small_blocks")
def test_a_row_that_is_no_logarithm_of_counts_refuses_the_file(
    check: Check, tmp_path: Path
) -> None:
    logs = log_normalised(cells(2500, 500, seed=11))
    logs[-1] *= np.linspace(0.9, 1.1, logs.shape[1])
    problem = refusal(check, files.write_h5ad(tmp_path / "query.h5ad", logs))
    (error,) = problem.errors
    assert error["code"] == "log-normalised"
    assert "cell 'cell2499'" in error["detail"]


@pytest.mark.usefixtures("small_blocks")
def test_fractional_counts_that_turn_into_something_else_are_refused(
    check: Check, tmp_path: Path
) -> None:
    counts = cells(2500, 500, seed=12)
    values = np.vstack([transformed.soup(counts[:2000]), transformed.cpm(counts[2000:])])
    problem = refusal(check, files.write_h5ad(tmp_path / "query.h5ad", values), counts="as-is")
    assert {each["code"] for each in problem.errors} == {"normalised-values"}


def test_a_restart_is_sent_and_taken(tmp_path: Path) -> None:
    sent = tmp_path / "stream"
    taken: list[str] = []

    class Folder:
        def write(self, name: str, data: Any) -> None:
            taken.append(name)

        def progress(self, fraction: float) -> None:
            return None

        def restart(self) -> None:
            taken.append("restart")

    with sent.open("wb") as file:
        writer = FrameWriter(file.fileno())
        writer.write("data.npy", b"1234")
        writer.restart()
        writer.write("data.npy", b"5678")
    Receiver(Folder()).feed(sent.read_bytes())
    assert taken == ["data.npy", "restart", "data.npy"]
