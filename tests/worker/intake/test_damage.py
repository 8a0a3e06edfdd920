"""Damage that fuzzing has found: each kind once stopped a check in a way that it must not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from app.problems import Problem

from . import files
from .bad_files import replace

Sandboxed = Callable[..., dict[str, Any]]


def codes(sandboxed: Sandboxed, path: Path) -> set[tuple[str, str]]:
    with pytest.raises(Problem) as raised:
        sandboxed(path)
    return {(each["code"], each["pointer"]) for each in raised.value.errors}


@pytest.mark.parametrize(
    ("filters", "mask", "stored"),
    [
        ({"fletcher32": True}, 0, b"\x01"),
        ({"compression": "gzip", "shuffle": True}, 3, b"\x01" * 17),
        ({"compression": "gzip"}, 1, b""),
        ({"compression": "lzf"}, 0, b"\x01"),
    ],
)
def test_a_chunk_that_cannot_be_filled(
    filters: dict[str, Any], mask: int, stored: bytes, sandboxed: Sandboxed, tmp_path: Path
) -> None:
    """The HDF5 library reads on beyond the end of such a chunk."""
    path = files.write_h5ad(tmp_path / "query.h5ad", files.counts(60, 40))
    with h5py.File(path, "a") as file:
        values = file["X/data"][...]
        replace(file, "X/data", values, chunks=values.shape, **filters)
        file["X/data"].id.write_direct_chunk((0,), stored or b"\0", mask)
    assert codes(sandboxed, path) == {("damaged-file", "/X/data")}


@pytest.mark.parametrize("filters", [{}, {"fletcher32": True}, {"compression": "gzip"}])
def test_chunks_that_are_sound_stay_so(
    filters: dict[str, Any], sandboxed: Sandboxed, tmp_path: Path
) -> None:
    """Zeros pack best of all, and a last chunk is only partly used."""
    matrix = np.zeros((700, 500), dtype=np.float32)
    matrix[:, 0] = 1
    path = files.write_h5ad(tmp_path / "query.h5ad", matrix, "dense")
    with h5py.File(path, "a") as file:
        replace(file, "X", matrix, chunks=(512, 300), compression_opts=None, **filters)
    assert sandboxed(path)["nnz"] == 700


@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
def test_an_array_in_every_place(part: str, sandboxed: Sandboxed, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        length, kind = file[f"X/{part}"].shape[0], file[f"X/{part}"].dtype
        del file[f"X/{part}"]
        file["X"].create_dataset(part, (length,), np.dtype((kind, (3,))))
    assert ("wrong-dimensions", f"/X/{part}") in codes(sandboxed, path)


def test_names_of_fields_that_are_no_text(sandboxed: Sandboxed, tmp_path: Path) -> None:
    path = files.write_h5ad_06(tmp_path / "query.h5ad", files.counts())
    bytes_of = path.read_bytes()
    assert b"depth\0" in bytes_of
    path.write_bytes(bytes_of.replace(b"depth\0", b"d\xec\xffth\0"))
    assert ("damaged-file", "/obs") in codes(sandboxed, path)


def test_a_heap_that_goes_round_in_circles(sandboxed: Sandboxed, tmp_path: Path) -> None:
    """A wrong size in the heap of texts: the HDF5 library never comes back from reading one."""
    path = files.write_h5ad(tmp_path / "query.h5ad", files.counts(60, 40))
    stored = path.read_bytes()
    length = stored.index(b"gene1\0") - 8
    path.write_bytes(stored[:length] + b"\xcd" + stored[length + 1 :])
    assert codes(sandboxed, path) == {("crashes-reader", "/")}


@pytest.mark.parametrize("value", [2.01348876953125, 4.78125, 0.5])
def test_a_few_damaged_counts_are_no_logarithms(
    value: float, sandboxed: Sandboxed, tmp_path: Path
) -> None:
    """Undone as logarithms of base 10, counts of 1, 2 and 3 would be 1, 11 and 111."""
    path = files.write_h5ad(tmp_path / "query.h5ad", files.counts(60, 40))
    with h5py.File(path, "a") as file:
        file["X/data"][[100, 900]] = value
    assert codes(sandboxed, path) == {("fractional-values", "/X/data")}


@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_a_last_cell_of_stored_zeros(layout: str, sandboxed: Sandboxed, tmp_path: Path) -> None:
    matrix = files.counts(60, 40)
    path = files.write_h5ad(tmp_path / "query.h5ad", matrix, layout)
    rows = (np.argwhere(matrix) if layout == "csr" else np.argwhere(matrix.T)[:, ::-1])[:, 0]
    with h5py.File(path, "a") as file:
        file["X/data"][...] = np.where(rows == 59, 0, file["X/data"][...])
    assert sandboxed(path)["counts"]["empty_cells"] == 1


def test_names_of_which_nothing_is_stored(sandboxed: Sandboxed, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad", files.counts(60, 40))
    with h5py.File(path, "a") as file:
        del file["obs/_index"]
        file["obs"].create_dataset("_index", (10**7,), files.TEXT, chunks=(4096,))
    assert ("expands-too-much", "/obs/_index") in codes(sandboxed, path)
