"""Files that look strange and are sound: they are accepted, and come out right."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.worker.intake import files

from .registry import replace, sound

Change = Callable[[h5py.File], Any]
ODDITIES: dict[str, Callable[[Path], Path]] = {}


def odd(change: Change, *, layout: str = "csr", libver: str = "earliest") -> Change:
    def write(folder: Path) -> Path:
        path = sound(folder, layout=layout, libver=libver)
        with h5py.File(path, "a", libver=libver) as file:
            change(file)
        return path

    ODDITIES[change.__name__] = write
    return change


def _each(name: str, change: Callable[[np.ndarray], Any], part: str, layout: str = "csr") -> None:
    def function(file: h5py.File) -> None:
        replace(file, part, change(file[part][...]))

    function.__name__ = name
    odd(function, layout=layout)


_each("big_endian_values", lambda a: a.astype(">f4"), "X/data")
_each("big_endian_pointers", lambda a: a.astype(">i8"), "X/indptr")
_each("big_endian_indices", lambda a: a.astype(">u2"), "X/indices")
_each("big_endian_dense", lambda a: a.astype(">i8"), "X", "dense")
_each("unsigned_pointers", lambda a: a.astype("u8"), "X/indptr")
_each("half_precision", lambda a: a.astype("f2"), "X/data")
_each("unsigned_bytes", lambda a: a.astype("u1"), "X/data", "csc")
_each("negative_zeros", lambda a: np.where(a == 0, np.float32(-0.0), a), "X", "dense")


@odd
def entries_in_any_order(file: h5py.File) -> None:
    starts = file["X/indptr"][...]
    for name in ("data", "indices"):
        values = file[f"X/{name}"][...]
        for first, last in pairwise(starts):
            values[first:last] = values[first:last][::-1].copy()
        file[f"X/{name}"][...] = values


@odd
def column_called_like_a_way(file: h5py.File) -> None:
    file["obs"].attrs["column-order"] = ["sample", "../../X/data", "/X", ".", ".."]


@odd
def names_that_are_scripts(file: h5py.File) -> None:
    names = ["<script>alert(1)</script>", "../../etc/passwd", "a\nb", "a\rb", "a\tb", "\u202etxt"]
    names += ["' OR 1=1 --", "=cmd()", "%s%n", "{0}", "\x1b[31m", "\ufeffx"]
    replace(file, "obs/_index", names[: files.CELLS], dtype=files.TEXT)


@odd
def columns_that_are_scripts(file: h5py.File) -> None:
    names = ["<script>alert(1)</script>", "a\nb", "\u202eevil", "x" * 10_000, "\x1b[31m"]
    file["obs"].attrs["column-order"] = names
    for name in names:
        files.write_categorical(file["obs"], name, [0] * files.CELLS, [name])


@odd
def codes_out_of_range_in_a_column(file: h5py.File) -> None:
    file["obs/sample/codes"][3] = 77


@odd
def codes_below_minus_one(file: h5py.File) -> None:
    file["obs/sample/codes"][3] = -2


@odd
def categories_that_repeat(file: h5py.File) -> None:
    replace(file, "obs/sample/categories", ["a", "a"], dtype=files.TEXT)


@odd
def column_that_is_a_table(file: h5py.File) -> None:
    file["obs"].attrs["column-order"] = ["inner"]
    files.write_frame(file["obs"], "inner", ["a"], [])


@odd
def column_too_long(file: h5py.File) -> None:
    file["obs"].attrs["column-order"] = ["long"]
    file["obs/long"] = np.arange(files.CELLS + 1)


@odd
def references_in_uns(file: h5py.File) -> None:
    file["uns/reference"] = np.array([file["X"].ref], dtype=h5py.ref_dtype)


@odd
def soft_link_within_the_file(file: h5py.File) -> None:
    file.move("X", "layers/counts")
    file["X"] = h5py.SoftLink("/layers/counts")


def _newest(file: h5py.File) -> None:
    """Chunks of every index that HDF5 has: one, fixed array, extensible array, B-tree."""
    for name, how in {
        "data": {"chunks": (4,), "maxshape": (None,)},
        "indices": {"chunks": (4,)},
        "indptr": {"chunks": (files.CELLS + 1,)},
    }.items():
        replace(file, f"X/{name}", file[f"X/{name}"][...], **how)


odd(_newest, libver="latest")
