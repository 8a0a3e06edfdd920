"""Every bad file is refused with a code, a pointer and a fix, quickly, and nothing dies."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from app.problems import Problem
from worker.zygote_process import ZygoteProcess

from . import files
from .bad_files import BROKEN, replace

Sandboxed = Callable[..., dict[str, Any]]


def refused(sandboxed: Sandboxed, path: Path, **request: Any) -> Problem:
    began = time.monotonic()
    with pytest.raises(Problem) as caught:
        sandboxed(path, **request)
    assert time.monotonic() - began < 10
    problem = caught.value
    assert problem.status == 422
    assert problem.fault == "data"
    assert problem.fix
    assert problem.errors
    return problem


@pytest.mark.parametrize("name", BROKEN)
def test_refuses_broken_structure(
    name: str, sandboxed: Sandboxed, zygote: ZygoteProcess, tmp_path: Path
) -> None:
    kind, pointer, break_it = BROKEN[name]
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        break_it(file, tmp_path)
    problem = refused(sandboxed, path)
    assert (problem.type, problem.errors[0]["pointer"]) == (kind, pointer)
    assert zygote.is_alive()


RAW_BYTES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "empty": ("empty-file", lambda sound: b""),
    "text": ("unreadable-file", lambda sound: b"cell,gene,count\n" * 100),
    "gzipped": ("unreadable-file", lambda sound: b"\x1f\x8b\x08" + bytes(200)),
    "zip": ("unreadable-file", lambda sound: b"PK\x03\x04" + bytes(200)),
    "html": ("unreadable-file", lambda sound: b"<!DOCTYPE html><title>Log in</title>"),
    "truncated": ("unreadable-file", lambda sound: sound[: len(sound) // 2]),
    "truncated_to_signature": ("unreadable-file", lambda sound: sound[:8]),
    "last_byte_missing": ("unreadable-file", lambda sound: sound[:-1]),
    "user_block": ("unsupported-file", lambda sound: b"#!/bin/sh\n".ljust(512, b"\n") + sound),
    "zeros_inside": ("unreadable-file", lambda sound: sound[:100] + bytes(400) + sound[500:]),
}


@pytest.mark.parametrize("name", RAW_BYTES)
def test_refuses_what_is_no_hdf5(name: str, sandboxed: Sandboxed, tmp_path: Path) -> None:
    kind, change = RAW_BYTES[name]
    path = files.write_h5ad(tmp_path / "query.h5ad")
    path.write_bytes(change(path.read_bytes()))
    assert refused(sandboxed, path).type == kind


@pytest.mark.parametrize(
    ("packed", "said", "fix"),
    [
        (b"X\n\x00\x00\x00\x03" + bytes(200), "an R data file", "anndataR"),
        (b"%%MatrixMarket matrix coordinate integer general\n", "Matrix Market", "features.tsv"),
        (b"gene,cell1,cell2\nACTB,1,2\n", "such as a table", "write_h5ad"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "compressed with gzip", "gunzip"),
    ],
)
def test_what_gzip_holds_is_named(
    packed: bytes, said: str, fix: str, sandboxed: Sandboxed, tmp_path: Path
) -> None:
    path = tmp_path / "query.h5ad"
    path.write_bytes(gzip.compress(packed))
    problem = refused(sandboxed, path)
    assert said in problem.detail
    assert fix in problem.fix


def test_a_link_to_a_fifo_does_not_hang(sandboxed: Sandboxed, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        file["uns/fifo"] = h5py.ExternalLink(str(tmp_path / "fifo"), "/")
    assert refused(sandboxed, path).type == "unsupported-file"


def test_too_many_objects(sandboxed: Sandboxed, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a", libver="latest") as file:
        uns = file.create_group("uns")
        target = uns.create_group("one")
        for number in range(100_001):
            uns[str(number)] = target
    assert refused(sandboxed, path).type == "file-too-large"


def test_a_cycle_of_groups_ends(sandboxed: Sandboxed, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        file["X/again"] = file["/"]
        file["obs/X"] = file["X"]
    problem = refused(sandboxed, path)
    told = {(error["code"], error["pointer"]) for error in problem.errors}
    assert told == {("object-repeated", "/X/again"), ("object-repeated", "/obs/X")}


def test_an_unknown_layer_names_those_there_are(sandboxed: Sandboxed, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        files.write_matrix(file, "layers/umi", files.counts(), "csr")
    problem = refused(sandboxed, path, layer="counts")
    assert problem.type == "unknown-layer"
    assert "`layers/umi`" in problem.detail


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_normalised_values_are_located_and_the_counts_found(
    layout: str, sandboxed: Sandboxed, tmp_path: Path
) -> None:
    matrix = files.counts()
    path = files.write_h5ad(tmp_path / "query.h5ad", matrix / 7 - 0.1 * (matrix > 0), layout)
    with h5py.File(path, "a") as file:
        files.write_matrix(file, "layers/counts", matrix, layout)
        files.write_matrix(file, "layers/scaled", matrix - 0.5, "dense")
    problem = refused(sandboxed, path, layer="X")
    assert problem.type == "not-counts"
    assert "layer=layers/counts" in problem.fix
    assert "scaled" not in problem.fix
    assert sandboxed(path)["counts_from"] == "layers/counts"


def test_all_problems_come_at_once(sandboxed: Sandboxed, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        del file["X"]
        del file["obs/_index"]
        del file["var/_index"]
    problem = refused(sandboxed, path)
    assert [error["pointer"] for error in problem.errors] == ["/obs", "/X", "/var"]


def write_nine_faults(path: Path) -> None:
    files.write_h5ad(path)
    with h5py.File(path, "a") as file:
        file["X/data"][:5] = [np.nan, np.inf, -1, 0.5, 1e9]
        file["X/indices"][3] = files.GENES + 5
        indptr = file["X/indptr"]
        indptr[2] = indptr[3] + 1
        file["uns/elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
        replace(file, "var/_index", np.linspace(0, 1, files.GENES))
        file["obs"].attrs["column-order"] = ["sample", "gone"]
        file["obs/_index"][5] = "cell4"


def test_nine_faults_are_told_as_nine(sandboxed: Sandboxed, tmp_path: Path) -> None:
    write_nine_faults(tmp_path / "query.h5ad")
    problem = refused(sandboxed, tmp_path / "query.h5ad")
    assert problem.inspection is not None
    errors = {
        ("external-link", "/uns/elsewhere"),
        ("names-not-text", "/var/_index"),
        ("pointers-fall", "/X/indptr"),
        ("index-out-of-range", "/X/indices"),
        ("not-a-number", "/X/data"),
        ("infinite-values", "/X/data"),
        ("negative-values", "/X/data"),
        ("fractional-values", "/X/data"),
        ("values-too-large", "/X/data"),
    }
    assert {(each["code"], each["pointer"]) for each in problem.errors} == errors
    told = {(each["code"], each["pointer"]) for each in problem.inspection["problems"]}
    assert told == errors | {("column-left-out", "/obs/gone"), ("repeated-cells", "/obs")}
    assert all(each["fix"] and each["detail"] for each in problem.inspection["problems"])
    assert problem.inspection["columns"][0]["name"] == "sample"


def test_many_findings_of_one_kind_are_summed_up(sandboxed: Sandboxed, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        for number in range(500):
            file[f"uns/{number}"] = h5py.ExternalLink("/etc/passwd", "/")
    problem = refused(sandboxed, path)
    assert len(problem.errors) == 20
    assert "480 more" in problem.errors[-1]["detail"]


def test_a_link_is_looked_at_wherever_it_is_met(sandboxed: Sandboxed, tmp_path: Path) -> None:
    """A group with two names is walked once; what is in it leads out under both."""
    other = files.write_h5ad(tmp_path / "other.h5ad")
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        del file["X"]
        file["aaa/X"] = h5py.ExternalLink(str(other), "/X")
        file["raw"] = file["aaa"]
        files.write_frame(file["aaa"], "var", files.names("gene", files.GENES), [])
        file["X"] = h5py.SoftLink("/raw/X")
    problem = refused(sandboxed, path)
    assert {error["code"] for error in problem.errors} == {
        "external-link",
        "dangling-link",
        "object-repeated",
    }
