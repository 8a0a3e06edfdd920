"""The obs table: its columns described for a person, and its Arrow form for the worker."""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from worker.intake.columns import Column
from worker.intake.findings import Findings
from worker.intake.tables import Table
from worker.names import name_of

LISTED_VALUES = 200
LONGEST_VALUE = 500


def describe_columns(obs: Table, private: Collection[str] = frozenset()) -> list[dict[str, Any]]:
    """Each column's kind and values, so that a person can pick the batch column.

    Of columns that look private, no value is told.
    """
    return [_describe(column, column.name in private) for column in obs.columns]


def _describe(column: Column, private: bool) -> dict[str, Any]:
    present = _present(column.values)
    described: dict[str, Any] = {
        "name": column.name,
        "kind": _kind(column.values.type),
        "n_values": pc.count_distinct(present).as_py(),
        "missing": len(column.values) - len(present),
    }
    if private:
        return {**described, "private": True}
    # Counted before they are listed: a column may hold another number in each of a million cells.
    if described["n_values"] <= LISTED_VALUES:
        listed = _list_values(column.values, present)
        if all(len(value) <= LONGEST_VALUE for value, _ in listed):
            described["values"] = [{"value": value, "cells": cells} for value, cells in listed]
    return described


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return "categorical"
    if pa.types.is_string(kind):
        return "string"
    if pa.types.is_boolean(kind):
        return "boolean"
    return "integer" if pa.types.is_integer(kind) else "number"


def _present(values: pa.Array) -> pa.Array:
    """The values that are not missing; of a categorical column, their codes."""
    if pa.types.is_dictionary(values.type):
        values = values.indices
    if pa.types.is_floating(values.type):
        values = values.filter(pc.invert(pc.is_nan(values)))
    return values.drop_null()


def _list_values(values: pa.Array, present: pa.Array) -> list[tuple[str, int]]:
    """Values as names with their number of cells: categories in their order, others sorted."""
    cells = {count["values"]: count["counts"] for count in pc.value_counts(present).to_pylist()}
    if pa.types.is_dictionary(values.type):
        names = values.dictionary
        return [(name_of(names[code].as_py()), cells[code]) for code in sorted(cells)]
    return [(name_of(value), cells[value]) for value in sorted(cells)]


def warn_about_cells(obs: Table, findings: Findings) -> None:
    repeated = len(obs) - pc.count_distinct(obs.index).as_py()
    if repeated:
        findings.tell(
            "repeated-cells",
            obs.path,
            f"{repeated:,} cell names occur again; results have them as uploaded, in their order, "
            "and query.h5ad has unique ones beside them, in obs column `cellgraft_cell`.",
            "Match results by position or by those, or make the names unique before uploading "
            "(adata.obs_names_make_unique()).",
        )


def unique_names(index: pa.Array) -> pa.Array | None:
    """Names of which none occurs again: repeats get a number that makes them new. None: they are.

    The first of its name keeps it, as anndata's `obs_names_make_unique` has it.
    """
    names = index.to_pylist()
    taken = set(names)
    if len(taken) == len(names):
        return None
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        number = seen.get(name, -1) + 1
        new = name
        while number and (new := f"{name}-{number}") in taken:
            number += 1
        seen[name] = number
        taken.add(new)
        unique.append(new)
    return pa.array(unique, pa.string())


def as_arrow(obs: Table) -> bytes:
    """An Arrow IPC file: the cell names first, then the columns in their order.

    Where names occur again, unique ones come last.
    """
    fields = [pa.field("__index__", obs.index.type)]
    for column in obs.columns:
        metadata = {"nullable": "true"} if column.nullable else None
        fields.append(pa.field(column.name, column.values.type, metadata=metadata))
    arrays = [obs.index, *(column.values for column in obs.columns)]
    unique = unique_names(obs.index)
    if unique is not None:
        fields.append(pa.field("__unique__", pa.string()))
        arrays.append(unique)
    told = {"index_name": json.dumps(obs.index_name), "unique": json.dumps(unique is not None)}
    schema = pa.schema(fields, metadata=told)
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()
