"""Every layout and encoding that anndata has written comes out as the same canonical query."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.problems import NotCounts, UnknownLayer
from worker.canonical import CanonicalQuery
from worker.intake.limits import Limits

from . import files
from .conftest import Checked, check_here

Check = Callable[..., Checked]
ARRAYS = ("indptr.npy", "indices.npy", "data.npy")


def arrays(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ARRAYS]


@pytest.mark.parametrize("layout", ["csr", "csc", "dense", "h5sparse-csr", "h5sparse-csc"])
def test_layouts_give_the_counts(layout: str, check: Check, tmp_path: Path) -> None:
    matrix = files.counts()
    report, query = check(files.write_h5ad(tmp_path / "query.h5ad", matrix, layout))
    assert (report["n_cells"], report["n_genes"]) == matrix.shape
    assert (query.rows(0, files.CELLS).toarray() == matrix).all()
    assert (query.rows(3, 99).toarray() == matrix[3:]).all()
    assert query.data.dtype == np.float32
    assert query.indices.dtype == np.int32
    assert query.indptr.dtype == np.int64


MATRICES = hnp.arrays(
    np.int16,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([0, 0, 0, 1, 2, 300]),
).filter(lambda matrix: bool(matrix.any()))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(matrix=MATRICES, number=st.sampled_from(["f4", "f8", "i4", "u2", ">i8", "f2"]))
def test_every_layout_gives_the_same_bytes(matrix: np.ndarray, number: str, tmp_path: Path) -> None:
    found = []
    for layout in ("csr", "csc", "dense"):
        stored = matrix.astype(np.dtype(number).newbyteorder("=") if layout != "dense" else number)
        with h5py.File(tmp_path / "query.h5ad", "w") as file:
            if layout == "dense" or number != "f2":
                files.write_matrix(file, "X", stored, layout)
            else:  # scipy has no half precision
                files.write_matrix(file, "X", stored.astype("f4"), layout)
            files.write_frame(file, "obs", files.names("cell", matrix.shape[0]), [])
            files.write_frame(file, "var", files.names("gene", matrix.shape[1]), [])
        check_here(tmp_path / "query.h5ad", tmp_path / layout)
        found.append(arrays(tmp_path / layout))
    assert found[0] == found[1] == found[2]


def shuffled(matrix: np.ndarray, layout: str) -> sp.csr_matrix | sp.csc_matrix:
    """The same matrix with entries out of order, one of them in two parts, and a stored zero."""
    rows, columns = np.nonzero(matrix)
    values = matrix[rows, columns]
    empty = np.argwhere(matrix == 0)[0]
    rows = np.concatenate([rows, rows[:1], empty[:1]])
    columns = np.concatenate([columns, columns[:1], empty[1:]])
    values = np.concatenate([values, [2.0, 0.0]]).astype(np.float32)
    major, minor = (rows, columns) if layout == "csr" else (columns, rows)
    order = np.lexsort((-minor, major))
    size = matrix.shape[0 if layout == "csr" else 1]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(major, minlength=size))])
    made = sp.csr_matrix if layout == "csr" else sp.csc_matrix
    return made((values[order], minor[order], indptr), shape=matrix.shape)


@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_unsorted_and_repeated_entries_are_put_right(
    layout: str, check: Check, tmp_path: Path
) -> None:
    matrix = files.counts()
    path = files.write_h5ad(tmp_path / "query.h5ad", matrix, layout)
    odd = shuffled(matrix, layout)
    with h5py.File(path, "a") as file:
        for part in ("data", "indices", "indptr"):
            del file["X"][part]
            file["X"][part] = getattr(odd, part)
    expected = matrix.copy()
    expected[tuple(np.argwhere(matrix)[0])] += 2
    _, query = check(path)
    assert (query.rows(0, 99).toarray() == expected).all()
    assert query.nnz == np.count_nonzero(expected)


def test_ones_that_pack_a_thousandfold_are_no_bomb(check: Check, tmp_path: Path) -> None:
    """The values of a matrix that was made binary; their places take the room."""
    matrix = (np.random.default_rng(0).random((200, 2000)) < 0.4).astype(np.float32)
    path = files.write_h5ad(tmp_path / "query.h5ad", matrix)
    with h5py.File(path, "a") as file:
        ones = file["X/data"][...]
        del file["X/data"]
        how = {"compression": "gzip", "compression_opts": 9, "chunks": ones.shape}
        packed = file["X"].create_dataset("data", data=ones, **how)
        assert ones.nbytes > Limits().expansion * packed.id.get_storage_size()
    _, query = check(path, limits=Limits(expansion_floor=ones.nbytes // 2))
    assert (query.rows(0, 200).toarray() == matrix).all()


def test_csc_is_turned_in_several_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = files.counts(200, 50)
    path = files.write_h5ad(tmp_path / "query.h5ad", matrix, "csc")
    check_here(path, tmp_path / "once")
    monkeypatch.setattr(Limits, "transpose_entries", np.count_nonzero(matrix) // 7)
    check_here(path, tmp_path / "often")
    assert arrays(tmp_path / "once") == arrays(tmp_path / "often")


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_reads_what_anndata_writes_today(
    compression: str | None, check: Check, tmp_path: Path
) -> None:
    obs = pd.DataFrame(
        {
            "sample": pd.Categorical(["b", "a", None, "b"], categories=["b", "a", "unused"]),
            "grade": pd.Categorical(
                ["lo", "hi", "hi", "lo"], categories=["lo", "hi"], ordered=True
            ),
            "number": pd.Categorical([2, 1, 2, 2]),
            "plain": ["x", "y", "y", "ü"],
            "whole": [1, 2, 2, 3],
            "share": [0.5, np.nan, 0.5, 1.0],
            "flag": [True, False, True, True],
            "maybe_int": pd.array([1, None, 3, 3], dtype="Int64"),
            "maybe_flag": pd.array([True, None, False, True], dtype="boolean"),
        },
        index=pd.Index(["c3", "c1", "c2", "c0"], name="barcode"),
    )
    var = pd.DataFrame({"gene_ids": ["E1", "E2"], "kind": ["rna", "rna"]}, index=["g1", "g2"])
    matrix = np.array([[1, 0], [0, 2], [3, 4], [0, 5]], dtype=np.float32)
    made = anndata.AnnData(sp.csr_matrix(matrix), obs=obs, var=var)
    made.write_h5ad(tmp_path / "query.h5ad", compression=compression)
    report, query = check(tmp_path / "query.h5ad")
    columns = {column.pop("name"): column for column in report["columns"]}
    assert columns["sample"] == {
        "kind": "categorical",
        "n_values": 2,
        "missing": 1,
        "values": [{"value": "b", "cells": 2}, {"value": "a", "cells": 1}],
    }
    kinds = {name: column["kind"] for name, column in columns.items()}
    assert kinds["plain"] in {"string", "categorical"}
    assert (kinds["whole"], kinds["share"], kinds["flag"]) == ("integer", "number", "boolean")
    assert (kinds["maybe_int"], columns["maybe_int"]["missing"]) == ("integer", 1)
    assert columns["share"]["missing"] == 1
    assert report["genes"]["columns"] == ["index", "gene_ids"]
    assert query.gene_columns() == {"index": ["g1", "g2"], "gene_ids": ["E1", "E2"]}
    back = query.obs()
    written = anndata.read_h5ad(tmp_path / "query.h5ad").obs
    pd.testing.assert_frame_equal(back, written, check_dtype=False, check_index_type=False)
    assert [str(kind) for kind in back.dtypes] == [str(kind) for kind in written.dtypes]


def test_reads_nullable_strings(check: Check, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        file["obs"].attrs["column-order"] = ["note"]
        note = file["obs"].create_group("note")
        note.attrs["encoding-type"] = "nullable-string-array"
        note.create_dataset("values", data=["n"] * files.CELLS, dtype=files.TEXT)
        note["mask"] = np.arange(files.CELLS) == 3
    report, query = check(path)
    assert report["columns"][0]["missing"] == 1
    assert query.obs()["note"].isna().tolist() == (np.arange(files.CELLS) == 3).tolist()


def write_masked(parent: h5py.Group, name: str, values: list[str]) -> None:
    if name in parent:
        del parent[name]
    group = parent.create_group(name)
    group.attrs["encoding-type"] = "nullable-string-array"
    group.create_dataset("values", data=values, dtype=files.TEXT)
    group["mask"] = np.zeros(len(values), dtype=bool)


def test_reads_names_that_pandas_3_keeps_with_a_mask(check: Check, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        write_masked(file["obs"], "_index", files.names("cell", files.CELLS))
        write_masked(file["var"], "_index", files.names("gene", files.GENES))
        write_masked(file["obs/sample"], "categories", ["a", "b"])
    report, query = check(path)
    assert report["problems"] == []
    assert query.obs().index.tolist() == files.names("cell", files.CELLS)
    assert query.obs()["sample"].tolist() == ["a", "b"] * (files.CELLS // 2)


def laboratory_files() -> list[Path]:
    folder = os.environ.get("CELLGRAFT_TEST_H5AD")
    return sorted(Path(folder).rglob("*.h5ad")) if folder else []


if laboratory_files():  # without any, a test over none of them would count as skipped

    @pytest.mark.parametrize("path", laboratory_files(), ids=lambda path: path.stem)
    def test_a_file_of_the_laboratory(check: Check, path: Path) -> None:
        """Real files are refused for their values at most."""
        with suppress(NotCounts, UnknownLayer):
            report, query = check(path)
            assert report["nnz"] == query.nnz


def test_reads_anndata_07(check: Check, tmp_path: Path) -> None:
    matrix = files.counts()
    _, query = check(files.write_h5ad_07(tmp_path / "query.h5ad", matrix))
    sample = query.obs()["sample"]
    assert sample.cat.ordered
    assert sample.tolist() == ["a", "b"] * (files.CELLS // 2)


@pytest.mark.parametrize("layer", [None, "X", "raw/X"])
def test_reads_anndata_06(layer: str | None, check: Check, tmp_path: Path) -> None:
    matrix = files.counts()
    path = files.write_h5ad_06(tmp_path / "query.h5ad", matrix)
    report, query = check(path, layer=layer)
    assert (query.rows(0, 99).toarray() == matrix + (layer != "X")).all()
    assert report["counts_from"] == (layer or "raw/X")
    assert query.obs()["sample"].tolist() == ["a", "b"] * (files.CELLS // 2)
    assert query.obs().index.tolist() == files.names("cell", files.CELLS)


@pytest.mark.parametrize("layer", ["layers/counts", "counts", "raw/X", "raw"])
def test_named_matrices(layer: str, check: Check, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad", np.log1p(files.counts()))
    wide = files.counts(files.CELLS, 20, seed=1)
    with h5py.File(path, "a") as file:
        files.write_matrix(file, "layers/counts", files.counts(seed=2), "dense")
        files.write_matrix(file, "raw/X", wide, "csc")
        files.write_frame(file["raw"], "var", files.names("raw", 20), [])
    report, query = check(path, layer=layer)
    expected = wide if layer.startswith("raw") else files.counts(seed=2)
    assert (query.rows(0, 99).toarray() == expected).all()
    assert len(query.gene_columns()["index"]) == expected.shape[1]
    assert "X" in report["dropped"]["matrices"]


def test_continuous_input_need_not_be_whole(check: Check, tmp_path: Path) -> None:
    matrix = np.log1p(files.counts())
    report, query = check(files.write_h5ad(tmp_path / "query.h5ad", matrix), input="continuous")
    assert report["input"] == query.input == "continuous"
    assert (query.rows(0, 99).toarray() == matrix).all()


def test_an_unreadable_column_costs_a_warning(check: Check, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        obs = file["obs"]
        obs.attrs["column-order"] = ["sample", "short", "odd", "gone", "wild"]
        obs["short"] = [1, 2]
        obs.create_group("odd").attrs["encoding-type"] = "awkward-array"
        files.write_categorical(obs, "wild", [9] * files.CELLS, ["a"])
    report, query = check(path)
    assert list(query.obs()) == ["sample"]
    assert report["dropped"]["obs"] == ["short", "odd", "gone", "wild"]
    assert [warning["pointer"] for warning in report["problems"]] == [
        f"/obs/{name}" for name in ("short", "odd", "gone", "wild")
    ]


def test_repeated_names_and_empty_cells_are_kept_and_told(check: Check, tmp_path: Path) -> None:
    matrix = files.counts()
    matrix[4] = 0
    path = files.write_h5ad(tmp_path / "query.h5ad", matrix)
    with h5py.File(path, "a") as file:
        file["obs/_index"][5] = "cell4"
        file["var/_index"][1] = "gene0"
    report, query = check(path)
    assert {warning["code"] for warning in report["problems"]} == {
        "empty-cells",
        "repeated-cells",
        "repeated-genes",
    }
    assert query.obs().index[5] == "cell4"
    assert list(query.obs()) == ["sample"]
    assert query.unique_names() == ["cell4-1" if i == 5 else f"cell{i}" for i in range(files.CELLS)]
    assert report["counts"]["empty_cells"] == 1


def test_names_are_made_unique_beside_those_that_look_made_so(check: Check, tmp_path: Path) -> None:
    names = ["a", "a", "a-1", "a", "b", "b", "a-1"]
    path = files.write_h5ad(tmp_path / "query.h5ad", files.counts(len(names)))
    with h5py.File(path, "a") as file:
        file["obs/_index"][:] = names
    _, query = check(path)
    assert list(query.obs().index) == names
    assert query.unique_names() == ["a", "a-2", "a-1", "a-3", "b", "b-1", "a-1-1"]


def test_nearly_empty_cells_are_kept_and_told(check: Check, tmp_path: Path) -> None:
    matrix = files.counts() + 150
    matrix[4] = 0
    matrix[4, 0] = 3
    report, query = check(files.write_h5ad(tmp_path / "query.h5ad", matrix))
    (warning,) = report["problems"]
    assert (warning["code"], warning["detail"][:8]) == ("nearly-empty-cells", "1 cells ")
    assert query.n_cells == files.CELLS


def test_a_dense_matrix_in_tall_chunks(check: Check, tmp_path: Path) -> None:
    matrix = files.counts(300, 20)
    path = files.write_h5ad(tmp_path / "query.h5ad", matrix, "dense")
    with h5py.File(path, "a") as file:
        del file["X"]
        file.create_dataset("X", data=matrix, chunks=(300, 1), compression="gzip")
    _, query = check(path)
    assert (query.rows(0, 300).toarray() == matrix).all()


def test_a_damaged_folder_is_not_opened(check: Check, tmp_path: Path) -> None:
    check(files.write_h5ad(tmp_path / "query.h5ad"))
    facts: dict[str, Any] = json.loads((tmp_path / "canonical/canonical.json").read_text())
    facts["nnz"] += 1
    (tmp_path / "canonical/canonical.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="do not fit"):
        CanonicalQuery.open(tmp_path / "canonical")
