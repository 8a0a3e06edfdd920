"""Names and columns that are odd: kept under another name, left out with a warning, or refused."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pyarrow as pa
import pytest
from h5py import h5g

from app.problems import NotCounts, Problem, UnreadableFile
from worker.intake.cells import describe_columns
from worker.intake.columns import Column
from worker.intake.folder import CanonicalFolder
from worker.intake.frames import HEADER, REPORT
from worker.intake.receiver import Receiver
from worker.intake.tables import Table
from worker.packed_counts import OwnCounts
from worker.results import annotated_obs, write_annotated_h5ad

from . import files
from .conftest import Checked

Check = Callable[..., Checked]
Sandboxed = Callable[..., dict[str, Any]]
LATIN = "caf\u00e9".encode("latin-1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return files.write_h5ad(tmp_path / "query.h5ad")


def as_stored(outcome: dict[str, Any]) -> str:
    """What a database and an answer make of an outcome: no lone surrogate survives this."""
    text = json.dumps(outcome, ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text
    return text


def test_a_var_column_called_index_does_not_replace_the_names(check: Check, path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["var"].attrs["column-order"] = ["index"]
        file["var"].create_dataset("index", data=files.names("ENSG", files.GENES), dtype=files.TEXT)
    report, query = check(path)
    assert query.gene_columns() == {
        "index": files.names("gene", files.GENES),
        "index_1": files.names("ENSG", files.GENES),
    }
    assert report["genes"]["columns"] == ["index", "index_1"]
    (warning,) = report["problems"]
    assert (warning["code"], warning["pointer"]) == ("column-renamed", "/var/index")


def test_obs_columns_called_like_the_index_come_back(
    check: Check, path: Path, tmp_path: Path
) -> None:
    odd = ["index", "__index__"]
    with h5py.File(path, "a") as file:
        file["obs"].attrs["column-order"] = odd
        for name in odd:
            file["obs"].create_dataset(name, data=files.names(name, files.CELLS), dtype=files.TEXT)
    _, query = check(path)
    latent, obs = np.zeros((files.CELLS, 2)), annotated_obs(query.obs(), {})
    write_annotated_h5ad(tmp_path / "out.h5ad", query, OwnCounts(query, threads=2), obs, latent)
    back = anndata.read_h5ad(tmp_path / "out.h5ad").obs
    assert back.index.tolist() == files.names("cell", files.CELLS)
    assert [back[name].tolist() for name in odd] == [files.names(n, files.CELLS) for n in odd]


def latin_group(file: h5py.File, parent: str) -> None:
    h5g.create(file.require_group(parent).id, LATIN)


@pytest.mark.parametrize("parent", ["uns", "layers", "obsm"])
def test_a_group_whose_name_is_no_text_is_dropped_by_a_readable_name(
    parent: str, sandboxed: Sandboxed, path: Path
) -> None:
    with h5py.File(path, "a") as file:
        latin_group(file, parent)
    told = sandboxed(path)
    as_stored(told)
    assert "caf\ufffd" in json.dumps(told["dropped"], ensure_ascii=False)


def test_pointers_and_details_can_be_stored(sandboxed: Sandboxed, path: Path) -> None:
    with h5py.File(path, "a") as file:
        latin_group(file, "layers")
        group = file.require_group("uns")
        group.id.links.create_external(LATIN, b"/etc/passwd", b"/")
    with pytest.raises(Problem) as caught:
        sandboxed(path)
    assert "/uns/caf\ufffd" in as_stored(caught.value.as_dict())
    with pytest.raises(Problem) as caught:
        sandboxed(path, layer="caf\udce9")
    as_stored(caught.value.as_dict())


@pytest.mark.parametrize("kind", ["fixed", "variable"])
def test_column_names_that_are_no_text(kind: str, sandboxed: Sandboxed, path: Path) -> None:
    with h5py.File(path, "a") as file:
        obs = file["obs"]
        order = np.array([b"sample", LATIN], dtype="S8" if kind == "fixed" else object)
        del obs.attrs["column-order"]
        obs.attrs.create("column-order", order, dtype=files.TEXT if kind == "variable" else None)
    told = sandboxed(path)
    as_stored(told)
    assert told["dropped"]["obs"] == ["caf\ufffd"]
    assert [column["name"] for column in told["columns"]] == ["sample"]


def test_the_receiver_mends_text_that_a_damaged_check_sends(tmp_path: Path) -> None:
    folder = CanonicalFolder(tmp_path / "out", quota=10)
    receiver = Receiver(folder)
    report = rb'{"\udce9": ["a\u0000b", {"c": "\ud800"}], "d": 1}'
    receiver.feed(HEADER.pack(REPORT, 0, len(report)) + report)
    folder.close()
    assert receiver.outcome is not None
    assert receiver.outcome[1] == {"\ufffd": ["a\ufffdb", {"c": "\ufffd"}], "d": 1}


def test_a_column_listed_twice_is_one_column(check: Check, path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["obs"].attrs["column-order"] = ["sample", "sample"]
    report, query = check(path)
    assert [column["name"] for column in report["columns"]] == ["sample"]
    assert query.obs()["sample"].tolist() == ["a", "b"] * (files.CELLS // 2)


def nullable_floats(obs: h5py.Group) -> None:
    group = obs.create_group("odd")
    group.attrs["encoding-type"] = "nullable-integer"
    group["values"] = np.linspace(0, 1, files.CELLS)
    group["mask"] = np.zeros(files.CELLS, dtype=bool)


def text_with_nul(obs: h5py.Group) -> None:
    obs["odd"] = np.array([b"a\0b"] * files.CELLS)


def two_encodings(obs: h5py.Group) -> None:
    obs.create_group("odd").attrs["encoding-type"] = ["categorical", "nullable-integer"]


def two_orders(obs: h5py.Group) -> None:
    files.write_categorical(obs, "odd", [0] * files.CELLS, ["a"])
    obs["odd"].attrs["ordered"] = [True, False]


def categories_of_categories(obs: h5py.Group) -> None:
    files.write_categorical(obs, "odd", [0] * files.CELLS, ["a"])
    del obs["odd/categories"]
    files.write_categorical(obs["odd"], "categories", [0], ["a"])


def categories_are_the_column(obs: h5py.Group) -> None:
    files.write_categorical(obs, "odd", [0] * files.CELLS, ["a"])
    del obs["odd/categories"]
    obs["odd/categories"] = h5py.SoftLink("/obs/odd")


ODD_COLUMNS = {
    nullable_floats: "nullable-integer, but holds double",
    text_with_nul: "NUL",
    two_encodings: "no single value",
    two_orders: "no single value",
    categories_of_categories: "'categorical': no names",
    categories_are_the_column: "'categorical': no names",
}


@pytest.mark.parametrize("write", ODD_COLUMNS, ids=lambda write: write.__name__)
def test_an_odd_column_is_left_out_in_plain_words(
    write: Callable[[h5py.Group], None], check: Check, path: Path
) -> None:
    with h5py.File(path, "a") as file:
        file["obs"].attrs["column-order"] = ["sample", "odd"]
        write(file["obs"])
    report, query = check(path)
    assert list(query.obs()) == ["sample"]
    (warning,) = report["problems"]
    assert ODD_COLUMNS[write] in warning["detail"]


@pytest.mark.parametrize("name", ["encoding-type", "h5sparse_format"])
def test_a_matrix_with_two_encodings_is_refused(name: str, check: Check, path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["X"].attrs["encoding-type"]
        file["X"].attrs[name] = ["csr_matrix", "csc_matrix"]
    with pytest.raises(UnreadableFile, match="no single value"):
        check(path)


def test_names_of_rows_that_hold_a_nul_are_refused(check: Check, path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["var/_index"]
        file["var/_index"] = np.array([b"g\0%d" % i for i in range(files.GENES)])
    with pytest.raises(UnreadableFile, match="NUL"):
        check(path)


@pytest.mark.parametrize(
    ("input", "value", "bound"),
    [("continuous", 3e38, "3.40282e\\+38"), ("counts", 2**24, "16,777,216")],
)
def test_entries_that_overflow_together_are_refused(
    input: str, value: float, bound: str, check: Check, path: Path
) -> None:
    with h5py.File(path, "a") as file:
        group = file["X"]
        columns = group["indices"][:2].copy()
        columns[1] = columns[0]
        group["indices"][:2] = columns
        group["data"][:2] = [value, value]
    with pytest.raises(NotCounts, match=f"too large; .* to {bound}"):
        check(path, input=input)


def test_a_column_of_many_distinct_values_costs_little() -> None:
    """Python objects for each of them would take hundreds of bytes a value."""
    cells = 200_000
    values = pa.array(np.random.default_rng(0).random(cells))
    codes = pa.array(np.arange(cells, dtype=np.int32))
    categories = values.cast(pa.string())
    columns = [
        Column("share", values),
        Column("name", pa.DictionaryArray.from_arrays(codes, categories)),
    ]
    table = Table("/obs", categories, None, columns)
    tracemalloc.start()
    described = describe_columns(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [column["n_values"] for column in described] == [cells, cells]
    assert all("values" not in column for column in described)
    assert peak < 2**20


def test_numbers_are_listed_by_the_names_that_a_mapping_gives_them() -> None:
    table = Table(
        "/obs", pa.array(["a", "b", "c"]), None, [Column("n", pa.array([2.0, 1.0, None]))]
    )
    (described,) = describe_columns(table)
    assert described["values"] == [{"value": "1", "cells": 1}, {"value": "2", "cells": 1}]
    assert described["missing"] == 1
