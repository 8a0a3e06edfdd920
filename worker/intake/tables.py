"""The obs and var tables of an h5ad, from the compound arrays of anndata 0.6 to today's groups."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h5py
import numpy as np
import pyarrow as pa

from app.problems import Problem
from worker.intake.columns import (
    Column,
    join_categories,
    read_column,
    read_names,
    read_values,
    to_arrow,
)
from worker.intake.findings import Findings, located, reading
from worker.intake.patience import losing_patience
from worker.intake.source import Source
from worker.names import readable

UNNAMED = frozenset({"_index", "__index__", "", "None"})
"""What anndata writes for an index without a name."""


@dataclass
class Table:
    """Rows by name, and the columns that could be read."""

    path: str
    index: pa.Array
    index_name: str | None
    columns: list[Column] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.index)


def read_table(
    source: Source, path: str, findings: Findings, *, only: Collection[str] | None = None
) -> Table:
    """Read obs or var. The index must be sound; a column that is not is left out, with a warning.

    `only` names the columns that are wanted, where not all are.

    Raises:
        Problem: there is no table at `path`, or its index is damaged.
    """
    if source.is_group(path):
        return _read_group(source, path, findings, only)
    if source.is_dataset(path):
        return _read_compound(source, path, findings, only)
    raise located("table-missing", path, f"The file has no {path}, so it is no h5ad.")


def _read_group(
    source: Source, path: str, findings: Findings, only: Collection[str] | None
) -> Table:
    index_name = _index_key(source, path)
    index_path = f"{path}/{index_name}"
    index = _names(read_names(source, index_path), index_path)
    table = Table(path, index, None if index_name in UNNAMED else index_name)
    for name in _column_order(source, path):
        if name in {index_name, "_index", "__categories"}:  # anndata's own words
            continue
        if only is not None and name not in only:
            continue
        with _optional(table, findings, name):
            table.columns.append(read_column(source, f"{path}/{name}", name, len(table)))
    return table


def _index_key(source: Source, path: str) -> str:
    named = source.attribute(path, "_index")
    keys = [named] if isinstance(named, str) else ["_index", "index"]
    for key in keys:
        if source.has(f"{path}/{key}"):
            return key
    raise located("table-index-missing", path, f"{path} has no index, the names of its rows.")


def column_names(source: Source, path: str) -> list[str]:
    """The names of a table's columns, without reading one."""
    if source.is_group(path):
        return [name for name in _column_order(source, path) if name != "__categories"]
    return [readable(name) for name in source.vector(path).dtype.names or ()]


def _column_order(source: Source, path: str) -> list[str]:
    order = source.attribute(path, "column-order")
    if order is None:
        return source.keys(path)
    if np.size(order) > source.limits.columns:
        raise located(
            "too-many-columns",
            path,
            f"{path} lists {np.size(order):,} columns; the limit is {source.limits.columns:,}.",
            "Keep the columns that you need, and write the file again.",
        )
    names = np.atleast_1d(order).tolist()
    named = (readable(name if isinstance(name, bytes) else str(name)) for name in names)
    return list(dict.fromkeys(named))  # a name that is listed twice is still one column


def _names(index: pa.Array, path: str) -> pa.Array:
    """Row names as text: anndata reads whole numbers as text too."""
    if pa.types.is_string(index.type):
        return index
    if pa.types.is_integer(index.type):
        return index.cast(pa.string())
    raise located("names-not-text", path, f"{path} holds {index.type}, not the names of rows.")


def _read_compound(
    source: Source, path: str, findings: Findings, only: Collection[str] | None
) -> Table:
    """anndata 0.6: one array of records, its categories far away in uns."""
    dataset = source.vector(path)
    fields = dataset.dtype.names
    if not fields:
        raise located("table-missing", path, f"{path} is no table: its rows have no fields.")
    key = next((name for name in ("index", "_index") if name in fields), fields[0])
    index = _names(_field(dataset, path, key), f"{path}/{key}")
    table = Table(path, index, None if key in UNNAMED | {"index"} else key)
    for name in fields:
        if name not in {key, "_index"} and (only is None or name in only):
            with _optional(table, findings, name):
                table.columns.append(_compound_column(source, dataset, path, name))
    return table


def _compound_column(source: Source, dataset: h5py.Dataset, path: str, name: str) -> Column:
    values = _field(dataset, path, name)
    shown = readable(name)
    categories = f"/uns/{shown}_categories"
    if pa.types.is_integer(values.type) and source.is_dataset(categories):
        known = read_values(source.vector(categories), categories)
        codes = values.to_numpy(zero_copy_only=False)
        return Column(shown, join_categories(codes, known, False, f"{path}/{shown}"))
    return Column(shown, values)


def _field(dataset: h5py.Dataset, path: str, name: str) -> pa.Array:
    pointer = f"{path}/{name}"
    if dataset.dtype[name].subdtype is not None:
        raise located("column-values", pointer, f"{pointer} holds an array in every row.")
    with reading(pointer), losing_patience(dataset.size):
        return to_arrow(dataset.fields(name)[...], pointer)


@contextmanager
def _optional(table: Table, findings: Findings, name: str) -> Iterator[None]:
    """A column that cannot be read costs a warning, not the upload."""
    try:
        yield
    except Problem as problem:
        table.unread.append(readable(name))
        findings.tell(
            "column-left-out",
            f"{table.path}/{name}",
            f"The column {readable(name)!r} is left out: {problem.detail}",
            "Nothing needs doing unless you need this column; if so, store it as text or numbers.",
        )
