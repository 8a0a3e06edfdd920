"""CSR and CSC whose pointers, indices or values do not fit together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.worker.intake import files

from .registry import breaks, replace

KIND = "damaged pointers"
Array = np.ndarray[Any, Any]
LAYOUTS = ("csr", "csc")


def _change(name: str, part: str, change: Callable[[Array], Array], *codes: str) -> None:
    """In both layouts; the change gets a copy as int64 or as stored, and returns what to store."""
    for layout in LAYOUTS:

        def function(file: h5py.File, folder: Path) -> None:
            replace(file, f"X/{part}", change(file[f"X/{part}"][...]), maxshape=None)

        function.__name__ = f"{layout}_{name}"
        breaks(KIND, f"/X/{part}", *codes, layout=layout)(function)


def _set(at: int, value: int) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        array = array.astype(np.int64)
        array[at] = value
        return array

    return change


def _set_unsigned(at: int, value: int) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        array = array.astype(np.uint64)
        array[at] = value
        return array

    return change


def _wrapping(array: Array) -> Array:
    """Each difference of two neighbours is positive, once it has wrapped around at 2^63."""
    array = array.astype(np.int64)
    array[1], array[2] = 2**62 + 1, -(2**62)
    return array


_change("pointers_begin_late", "indptr", _set(0, 1), "pointers-begin-late")
_change("pointers_begin_below_zero", "indptr", _set(0, -1), "pointers-begin-late")
_change("pointers_end_early", "indptr", _set(-1, 3), "pointers-end", "pointers-fall")
_change("pointers_end_late", "indptr", _set(-1, 2**40), "pointers-end")
_change("pointers_end_at_the_last_number", "indptr", _set(-1, 2**63 - 1), "pointers-end")
_change("pointers_fall", "indptr", _set(4, 2**30), "pointers-fall")
_change("pointers_below_zero", "indptr", _set(3, -7), "pointers-fall")
_change("pointers_wrap_around", "indptr", _wrapping, "pointers-fall")
_change("pointers_beyond_signed", "indptr", _set_unsigned(3, 2**64 - 8), "pointers-fall")
_change("pointers_too_few", "indptr", lambda a: a[:-2], "wrong-length")
_change("pointers_too_many", "indptr", lambda a: np.append(a, a[-1:]), "wrong-length")
_change("pointers_empty", "indptr", lambda a: a[:0], "wrong-length")
_change("pointers_of_fractions", "indptr", lambda a: a.astype("f8"), "pointers-not-integers")
_change("pointers_of_truth", "indptr", lambda a: a.astype(bool), "pointers-not-integers")
_change("pointers_of_text", "indptr", lambda a: a.astype("S4"), "pointers-not-integers")
_change("pointers_in_two_dimensions", "indptr", lambda a: a[None], "wrong-dimensions")
_change("pointers_in_no_dimension", "indptr", lambda a: a[0], "wrong-dimensions")
_change("index_too_large", "indices", _set(2, 10**6), "index-out-of-range")
_change("index_one_too_large", "indices", _set(-1, files.CELLS + 8), "index-out-of-range")
_change("index_below_zero", "indices", _set(2, -1), "index-out-of-range")
_change("index_that_wraps_at_32_bits", "indices", _set(2, 2**32), "index-out-of-range")
_change("index_beyond_signed", "indices", _set_unsigned(2, 2**63), "index-out-of-range")
_change("indices_of_fractions", "indices", lambda a: a.astype("f4"), "indices-not-integers")
_change("indices_of_truth", "indices", lambda a: a.astype(bool), "indices-not-integers")
_change("indices_too_few", "indices", lambda a: a[:-1], "entries-differ")
_change("values_too_few", "data", lambda a: a[:-1], "entries-differ")
_change("values_in_two_dimensions", "data", lambda a: a[:, None], "wrong-dimensions")


def _entries_differ_points_at_indices() -> None:
    from .registry import CORPUS, BadFile

    for layout in LAYOUTS:
        bad = CORPUS[f"{layout}_values_too_few"]
        CORPUS[bad.name] = BadFile(bad.name, bad.kind, bad.write, bad.codes, "/X/indices")


_entries_differ_points_at_indices()


@breaks(KIND, "/X/indices", "missing-array")
def indices_missing(file: h5py.File, folder: Path) -> None:
    del file["X/indices"]


@breaks(KIND, "/X/indptr", "missing-array")
def pointers_missing(file: h5py.File, folder: Path) -> None:
    del file["X/indptr"]


@breaks(KIND, "/X/data", "missing-array")
def values_are_a_group(file: h5py.File, folder: Path) -> None:
    del file["X/data"]
    file.create_group("X/data")


@breaks(KIND, "/X/indptr", "missing-array")
def pointers_are_a_named_type(file: h5py.File, folder: Path) -> None:
    del file["X/indptr"]
    file["X/indptr"] = np.dtype("i4")


@breaks(KIND, "/X/indices", "indices-not-integers")
def indices_are_records(file: h5py.File, folder: Path) -> None:
    size = file["X/indices"].size
    replace(file, "X/indices", np.zeros(size, dtype=[("a", "i4"), ("b", "i4")]))


@breaks(KIND, "/X/indptr", "placeholder")
def pointers_are_a_placeholder(file: h5py.File, folder: Path) -> None:
    del file["X/indptr"]
    file["X/indptr"] = h5py.Empty("i8")


@breaks(KIND, "/X/indptr", "pointers-end")
def pointers_never_written(file: h5py.File, folder: Path) -> None:
    del file["X/indptr"]
    file.create_dataset("X/indptr", (files.CELLS + 1,), "i4", chunks=True)


@breaks(KIND, "/X/indices", "index-out-of-range")
def indices_of_the_other_byte_order(file: h5py.File, folder: Path) -> None:
    """The bytes of little-endian numbers, called big-endian."""
    indices = file["X/indices"][...]
    replace(file, "X/indices", indices.view(">i4"))


@breaks(KIND, "/X/indices", "index-out-of-range", "pointers-fall", "values-too-large")
def all_three_are_noise(file: h5py.File, folder: Path) -> None:
    noise = np.random.default_rng(0)
    for name in ("data", "indices", "indptr"):
        size = file[f"X/{name}"].size
        replace(file, f"X/{name}", noise.integers(-(2**62), 2**62, size))


@breaks(KIND, "/X/indptr", "wrong-length")
def csr_called_csc(file: h5py.File, folder: Path) -> None:
    file["X"].attrs["encoding-type"] = "csc_matrix"
