"""Numbers that no count can be, and what is no number; in sparse and dense matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.worker.intake import files

from .registry import breaks, replace

VALUES, KINDS = "values", "kinds of values"


def _value(name: str, value: Any, code: str, dtype: str = "f8") -> None:
    for layout in ("csr", "csc", "dense"):

        def function(file: h5py.File, folder: Path, layout: str = layout) -> None:
            where = "X" if layout == "dense" else "X/data"
            values = file[where][...].astype(dtype)
            values[(3, 2) if layout == "dense" else 4] = value
            replace(file, where, values)

        function.__name__ = f"{layout}_{name}"
        pointer = "/X" if layout == "dense" else "/X/data"
        breaks(VALUES, pointer, code, layout=layout)(function)


_value("value_nan", np.nan, "not-a-number", "f4")
_value("value_infinite", np.inf, "infinite-values", "f4")
_value("value_infinitely_small", -np.inf, "infinite-values")
_value("value_negative", -1, "negative-values", "f4")
_value("value_fractional", 1.5, "fractional-values", "f4")
_value("value_nearly_whole", 1 + 2**-20, "fractional-values")
_value("value_of_3e38", 3e38, "values-too-large", "f4")
_value("value_beyond_exact_floats", 2**24 + 1, "values-too-large", "i8")
_value("value_lowest_int64", -(2**63), "negative-values", "i8")
_value("value_beyond_signed", 2**64 - 1, "values-too-large", "u8")
_value("value_smallest_fraction", 5e-324, "fractional-values")


def _kind(name: str, *dtypes: Any, code: str = "not-numbers") -> None:
    for layout in ("csr", "dense"):

        def function(file: h5py.File, folder: Path, layout: str = layout) -> None:
            where = "X" if layout == "dense" else "X/data"
            values = file[where][...]
            replace(file, where, values.astype("i4").astype(dtypes[0]), dtype=dtypes[-1])

        function.__name__ = f"{layout}_of_{name}"
        pointer = "/X" if layout == "dense" else "/X/data"
        breaks(KINDS, pointer, code, layout=layout)(function)


_kind("fixed_text", "S4")
_kind("complex_numbers", "c16")
_kind("long_doubles", np.longdouble)


@breaks(KINDS, "/X/data", "not-numbers")
def csr_of_text(file: h5py.File, folder: Path) -> None:
    size = file["X/data"].size
    replace(file, "X/data", ["1"] * size, dtype=files.TEXT)


@breaks(KINDS, "/X/data", "not-numbers")
def csr_of_opaque_bytes(file: h5py.File, folder: Path) -> None:
    replace(file, "X/data", np.array([b"1234"] * file["X/data"].size, dtype="V4"))


@breaks(KINDS, "/X", "not-numbers")
def dense_of_records(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file["X"] = np.zeros((files.CELLS, files.GENES), dtype=[("count", "f4"), ("error", "f4")])


@breaks(KINDS, "/X", "not-numbers")
def dense_of_sequences(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file.create_dataset("X", (files.CELLS, files.GENES), h5py.vlen_dtype(np.dtype("i4")))


@breaks(KINDS, "/X", "wrong-dimensions")
def dense_of_arrays(file: h5py.File, folder: Path) -> None:
    """h5py shows these as a matrix of four dimensions; the file has two."""
    del file["X"]
    kind = h5py.h5t.array_create(h5py.h5t.IEEE_F32LE, (2, 2))
    space = h5py.h5s.create_simple((files.CELLS, files.GENES))
    h5py.h5d.create(file.id, b"X", kind, space)


@breaks(KINDS, "/X", "damaged-file")
def dense_of_moments(file: h5py.File, folder: Path) -> None:
    """A kind of number (H5T_TIME) that h5py cannot read."""
    del file["X"]
    space = h5py.h5s.create_simple((files.CELLS, files.GENES))
    h5py.h5d.create(file.id, b"X", h5py.h5t.UNIX_D32LE, space)


@breaks(VALUES, "/X", "no-counts")
def csr_of_zeros(file: h5py.File, folder: Path) -> None:
    file["X/data"][:] = 0


@breaks(VALUES, "/X", "no-counts", layout="dense")
def dense_never_written(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file.create_dataset("X", (files.CELLS, files.GENES), "f4", chunks=True)


@breaks(VALUES, "/X/data", "values-too-large")
def entries_too_large_together(file: h5py.File, folder: Path) -> None:
    file["X/data"][:2] = [2**24, 2**24]
    first = int(file["X/indices"][0])
    file["X/indices"][:2] = [first, first]


@breaks(VALUES, "/X", "negative-values", "fractional-values", layout="dense")
def dense_scaled(file: h5py.File, folder: Path) -> None:
    values = file["X"][...]
    file["X"][...] = (values - values.mean(axis=0)) / (values.std(axis=0) + 1)
