"""Transposed matrices and matrices of all droplets are named, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from app.problems import Problem, UnsupportedFile

from . import cell_ranger_files as made
from . import files
from . import market_files as packed
from .bad_files import replace
from .conftest import Checked

Check = Callable[..., Checked]
SYMBOLS = ["A1BG", "ACTB", "CD3E", "GAPDH", "MALAT1", "NKG7", "RPL3", "TP53"]
NAMES = {
    "Ensembl ids": (made.gene_ids(8), files.names("x", 12)),
    "symbols": (SYMBOLS, files.names("x", 12)),
    "symbols of mouse": ([name.capitalize() for name in SYMBOLS], files.names("x", 12)),
    "barcodes": (files.names("x", 8), made.barcodes(12)),
    "barcodes with a sample": (files.names("x", 8), [f"s1_{each}" for each in made.barcodes(12)]),
    "placeholders": (files.names("gene", 8), files.names("cell", 12)),
}


def named(path: Path, matrix: np.ndarray, rows: list[str], columns: list[str]) -> Path:
    files.write_h5ad(path, matrix)
    with h5py.File(path, "a") as file:
        replace(file, "obs/_index", np.array(rows, dtype="S"))
        replace(file, "var/_index", np.array(columns, dtype="S"))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_names_show_it(name: str, check: Check, tmp_path: Path) -> None:
    genes, cells = NAMES[name]
    matrix = files.counts()
    with pytest.raises(UnsupportedFile, match="transposed") as caught:
        check(named(tmp_path / "turned.h5ad", matrix.T, genes, cells))
    assert [(each["code"], each["pointer"]) for each in caught.value.errors] == [
        ("transposed-matrix", "/X")
    ]
    assert "adata.T" in caught.value.fix
    report, _ = check(named(tmp_path / "straight.h5ad", matrix, cells, genes))
    assert report["problems"] == []


@pytest.mark.parametrize(("each", "is_refused"), [(1, True), (4, False)])
def test_a_column_of_gene_ids_beside_the_cells_shows_it(
    check: Check, tmp_path: Path, each: int, is_refused: bool
) -> None:
    """But not the targets of a screen, which many cells share."""
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        ids = [made.gene_ids(12)[row // each] for row in range(12)]
        column = file["obs"].create_dataset("gene_ids", data=ids, dtype=files.TEXT)
        column.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
        file["obs"].attrs["column-order"] = ["sample", "gene_ids"]
        replace(file, "var/_index", np.array(files.names("x", 8), dtype="S"))
    if is_refused:
        with pytest.raises(UnsupportedFile, match="transposed"):
            check(path)
    else:
        assert check(path)[0]["problems"] == []


def test_lengths_show_it(check: Check, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        del file["X"]
        files.write_matrix(file, "X", files.counts().T, "csr")
    with pytest.raises(UnsupportedFile, match="8 rows and 12 columns, for 12 cells and 8 genes"):
        check(path)


def test_a_turned_file_of_10x_is_named(check: Check, tmp_path: Path) -> None:
    path = made.write_v3(tmp_path / "query.h5", files.counts().T)
    with h5py.File(path, "a") as file:
        replace(file, "matrix/barcodes", np.array(made.gene_ids(8), dtype="S"))
        replace(file, "matrix/features/id", np.array(made.barcodes(12), dtype="S"))
    with pytest.raises(UnsupportedFile, match="transposed"):
        check(path)


def droplets(n_rows: int, n_full: int, *, empty: float, full: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = np.full(n_rows, empty)
    means[rng.choice(n_rows, n_full, replace=False)] = full
    return rng.poisson(means[:, None] / 40, (n_rows, 40)).astype(np.float32)


@pytest.mark.parametrize("empty", [0.0, 0.5, 3.0, 10.0])
def test_all_droplets_are_recognised(empty: float, check: Check, tmp_path: Path) -> None:
    matrix = droplets(5_000, 100, empty=empty, full=3_000)
    for path in (
        made.write_v3(tmp_path / "raw_feature_bc_matrix.h5", matrix),
        packed.write_tar(tmp_path / "raw.tar.gz", packed.triple(matrix)),
    ):
        with pytest.raises(UnsupportedFile, match="before cells were called") as caught:
            check(path)
        assert [each["code"] for each in caught.value.errors] == ["unfiltered-barcodes"]
        assert "filtered_feature_bc_matrix" in caught.value.fix
    report, query = check(made.write_v3(tmp_path / "kept.h5", matrix), unfiltered="keep")
    assert query.n_cells == 5_000
    assert "unfiltered-kept" in [each["code"] for each in report["problems"]]


@pytest.mark.parametrize(
    "matrix",
    [
        droplets(2_000, 400, empty=800, full=20_000),
        droplets(2_000, 200, empty=15, full=300),  # a small panel
        droplets(400, 20, empty=0.5, full=3_000),
    ],
)
def test_cells_of_very_different_sizes_are_taken(
    matrix: np.ndarray, check: Check, tmp_path: Path
) -> None:
    report, _ = check(made.write_v3(tmp_path / "query.h5", matrix))
    assert {each["severity"] for each in report["problems"]} <= {"warning"}


def test_values_that_are_no_counts_are_not_judged(check: Check, tmp_path: Path) -> None:
    matrix = droplets(5_000, 100, empty=1, full=3_000)
    report, _ = check(made.write_v3(tmp_path / "query.h5", matrix), input="continuous")
    assert report["n_cells"] == 5_000


def test_a_turned_part_is_told_by_number(tmp_path: Path) -> None:
    from worker.intake.check import Request, check_upload
    from worker.intake.frames import NoSink
    from worker.intake.limits import Limits
    from worker.intake.samples import UploadedFile

    path = files.write_h5ad(tmp_path / "b.h5ad")
    with h5py.File(path, "a") as file:
        del file["X"]
        files.write_matrix(file, "X", files.counts().T, "csr")
    sent = [UploadedFile(files.write_h5ad(tmp_path / "a.h5ad"), "a.h5ad"), UploadedFile(path, "b")]
    with pytest.raises(Problem) as caught:
        check_upload(sent, Request(), Limits(), NoSink())
    assert [(each["code"], each["pointer"]) for each in caught.value.errors] == [
        ("transposed-matrix", "/parts/2/X")
    ]
