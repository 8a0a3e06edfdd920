"""One column of obs or var, in every encoding anndata has used, as an Arrow array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from worker.intake.findings import located, reading
from worker.intake.patience import losing_patience
from worker.intake.source import Source

NULLABLE: dict[str, Callable[[pa.DataType], bool]] = {
    "nullable-integer": pa.types.is_integer,
    "nullable-boolean": pa.types.is_boolean,
    "nullable-string-array": pa.types.is_string,
}
"""What anndata stores with a mask of missing values, and what its values must be."""

TEXTS = (None, str, bytes)
"""Of what h5py reads as objects, the sequences that are text; None for all else."""


@dataclass(frozen=True)
class Column:
    """A named column; `nullable` when the file kept a mask of missing values beside it."""

    name: str
    values: pa.Array
    nullable: bool = False


def read_column(source: Source, path: str, name: str, length: int) -> Column:
    """Read one column.

    Raises:
        Problem: the column is damaged, or of an encoding that a table of cells cannot hold.
    """
    with reading(path):
        if source.is_group(path):
            return _read_encoded(source, path, name, length)
        dataset = source.vector(path, length)
        legacy = legacy_categories(source, path, name)
        if legacy is not None and dataset.dtype.kind in "iu":
            ordered = bool(source.scalar(legacy, "ordered"))
            return Column(name, _categorical(source, path, legacy, ordered, length))
        return Column(name, read_values(dataset, path))


def legacy_categories(source: Source, path: str, name: str) -> str | None:
    """Where anndata 0.7 kept the categories of a column: by name, beside the columns."""
    found = f"{path.rsplit('/', 1)[0]}/__categories/{name}"
    return found if source.is_dataset(found) else None


def _read_encoded(source: Source, path: str, name: str, length: int) -> Column:
    encoding = source.scalar(path, "encoding-type")
    if encoding == "categorical":
        ordered = bool(source.scalar(path, "ordered"))
        codes, categories = f"{path}/codes", f"{path}/categories"
        return Column(name, _categorical(source, codes, categories, ordered, length))
    if encoding in NULLABLE:
        return Column(name, _read_masked(source, path, encoding, length), nullable=True)
    raise located("column-encoding", path, f"{path} has the encoding {encoding!r}, unknown here.")


def _read_masked(source: Source, path: str, encoding: str, length: int) -> pa.Array:
    values = read_values(source.vector(f"{path}/values", length), f"{path}/values")
    if not NULLABLE[encoding](values.type):
        raise located("column-encoding", path, f"{path} is a {encoding}, but holds {values.type}.")
    mask = source.vector(f"{path}/mask", length)
    with reading(f"{path}/mask"):
        missing = np.asarray(mask[...], dtype=bool)
    return pc.if_else(pa.array(missing), pa.scalar(None, values.type), values)


def read_values(dataset: h5py.Dataset, path: str) -> pa.Array:
    """A whole vector of strings, numbers or booleans."""
    with reading(path), losing_patience(dataset.size):
        return to_arrow(dataset[...], path)


def read_names(source: Source, path: str) -> pa.Array:
    """A whole vector without missing values: plain, or with a mask as pandas 3 makes anndata write.

    Row names and categories are stored so.
    """
    with reading(path):
        if not source.is_group(path):
            return read_values(source.vector(path), path)
        encoding = source.scalar(path, "encoding-type")
        if encoding not in NULLABLE:
            raise located(
                "column-encoding", path, f"{path} has the encoding {encoding!r}: no names."
            )
        length = int(source.vector(f"{path}/values").shape[0])
        values = _read_masked(source, path, encoding, length)
    if values.null_count:
        raise located("names-missing", path, f"{path} holds {values.null_count:,} missing values.")
    return values


def to_arrow(values: Any, path: str) -> pa.Array:
    if h5py.check_ref_dtype(values.dtype) or h5py.check_vlen_dtype(values.dtype) not in TEXTS:
        raise located("column-values", path, f"{path} holds references or sequences, not values.")
    if values.dtype.kind in "OS":
        # Variable-length strings arrive as bytes objects. The cast proves that they are UTF-8.
        text = pa.array(values.tolist(), pa.binary()).cast(pa.string())
        if pc.any(pc.match_substring(text, "\0")).as_py():
            # Only strings of fixed length can hold one, and no result file could.
            raise located("text-with-nul", path, f"{path} holds text with a NUL character in it.")
        return text
    if values.dtype.kind not in "iufb" or values.dtype.itemsize > 8:
        raise located("column-values", path, f"{path} holds values of type {values.dtype}.")
    native = values.dtype.newbyteorder("=")
    if native == np.float16:
        native = np.dtype(np.float32)
    return pa.array(values.astype(native, copy=False))


def _categorical(
    source: Source, codes_path: str, categories_path: str, ordered: bool, length: int
) -> pa.DictionaryArray:
    dataset = source.vector(codes_path, length)
    with reading(codes_path):
        codes = np.asarray(dataset[...])
    categories = read_names(source, categories_path)
    return join_categories(codes, categories, ordered, codes_path)


def join_categories(
    codes: np.ndarray[Any, Any], categories: pa.Array, ordered: bool, path: str
) -> pa.DictionaryArray:
    """Codes and categories as one array, proved to fit; a code of -1 is a missing value."""
    if codes.dtype.kind not in "iu":
        raise located("codes-not-integers", path, f"{path} holds codes of type {codes.dtype}.")
    if len(codes) and (int(codes.min()) < -1 or int(codes.max()) >= len(categories)):
        raise located(
            "code-out-of-range",
            path,
            f"{path} holds codes outside its {len(categories):,} categories.",
        )
    if pc.count_distinct(categories, mode="all").as_py() != len(categories):
        raise located("categories-repeat", path, f"The categories of {path} are not distinct.")
    signed = codes.astype(np.int32)
    return pa.DictionaryArray.from_arrays(
        pa.array(signed, mask=signed < 0), categories, ordered=ordered
    )
