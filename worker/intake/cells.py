"""The obs table: its columns described for a person, and its Arrow form for the worker."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from worker.intake.columns import Column
from worker.intake.findings import Findings
from worker.intake.tables import Table

LISTED_VALUES = 200
LONGEST_VALUE = 500


def describe_columns(obs: Table) -> list[dict[str, Any]]:
    """Each column's kind and values, so that a person can pick the batch column."""
    return [_describe(column) for column in obs.columns]


def _describe(column: Column) -> dict[str, Any]:
    counted = _count_values(column.values)
    described: dict[str, Any] = {
        "name": column.name,
        "kind": _kind(column.values.type),
        "n_values": len(counted),
        "missing": _missing(column.values),
    }
    longest = max((len(value) for value, _ in counted[: LISTED_VALUES + 1]), default=0)
    if len(counted) <= LISTED_VALUES and longest <= LONGEST_VALUE:
        described["values"] = [{"value": value, "cells": cells} for value, cells in counted]
    return described


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return "categorical"
    if pa.types.is_string(kind):
        return "string"
    if pa.types.is_boolean(kind):
        return "boolean"
    return "integer" if pa.types.is_integer(kind) else "number"


def _missing(values: pa.Array) -> int:
    nan_too = pa.types.is_floating(values.type)
    return int(pc.sum(pc.is_null(values, nan_is_null=nan_too)).as_py() or 0)


def _count_values(values: pa.Array) -> list[tuple[str, int]]:
    """Values as text with their number of cells: categories in their order, others sorted."""
    if pa.types.is_dictionary(values.type):
        cells = {count["values"]: count["counts"] for count in _counts(values.indices)}
        names = values.dictionary.to_pylist()
        return [(str(name), cells[code]) for code, name in enumerate(names) if code in cells]
    present = [(count["values"], count["counts"]) for count in _counts(values)]
    return [(str(value), cells) for value, cells in sorted(present)]


def _counts(values: pa.Array) -> list[dict[str, Any]]:
    if pa.types.is_floating(values.type):
        values = values.filter(pc.invert(pc.is_nan(values)))
    counted: list[dict[str, Any]] = pc.value_counts(values.drop_null()).to_pylist()
    return counted


def warn_about_cells(obs: Table, findings: Findings) -> None:
    repeated = len(obs) - pc.count_distinct(obs.index).as_py()
    if repeated:
        findings.warn(
            "repeated-cells",
            obs.path,
            f"{repeated:,} cell names occur again; they are kept as uploaded, in their order.",
            "Match results by position, or make the names unique (adata.obs_names_make_unique()).",
        )


def as_arrow(obs: Table) -> bytes:
    """An Arrow IPC file: the cell names first, then the columns in their order."""
    fields = [pa.field("__index__", obs.index.type)]
    for column in obs.columns:
        metadata = {"nullable": "true"} if column.nullable else None
        fields.append(pa.field(column.name, column.values.type, metadata=metadata))
    schema = pa.schema(fields, metadata={"index_name": json.dumps(obs.index_name)})
    arrays = [obs.index, *(column.values for column in obs.columns)]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()
