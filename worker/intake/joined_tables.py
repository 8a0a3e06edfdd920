"""Tables of several files below each other: columns by name, genes by name and once each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from worker.intake.columns import Column
from worker.intake.findings import Findings
from worker.intake.tables import Table
from worker.intake.values import Array


def join_tables(tables: Sequence[Table], path: str, findings: Findings) -> Table:
    """All rows; a column that a table lacks is missing in its rows."""
    index = pa.concat_arrays([table.index for table in tables])
    names = dict.fromkeys(column.name for table in tables for column in table.columns)
    columns = [_join_column(tables, name) for name in names]
    unread = list(dict.fromkeys(name for table in tables for name in table.unread))
    return Table(path, index, None, columns, unread)


def _join_column(tables: Sequence[Table], name: str) -> Column:
    found = [_column(table, name) for table in tables]
    kind = _kind([column.values for column in found if column is not None])
    arrays = [
        pa.nulls(len(table), kind) if column is None else _as_kind(column.values, kind)
        for table, column in zip(tables, found, strict=True)
    ]
    joined = pa.chunked_array(arrays, kind)
    if pa.types.is_dictionary(kind):
        joined = joined.unify_dictionaries()
    values = joined.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # of no chunks, or of one
        values = pa.concat_arrays(values.chunks)
    # Without a mask, pandas would turn whole numbers with gaps into fractions.
    gaps = None in found and (pa.types.is_integer(kind) or pa.types.is_boolean(kind))
    masked = any(column.nullable for column in found if column is not None)
    return Column(name, values, nullable=gaps or (masked and not pa.types.is_dictionary(kind)))


def _column(table: Table, name: str) -> Column | None:
    return next((column for column in table.columns if column.name == name), None)


def _kind(arrays: Sequence[pa.Array]) -> pa.DataType:
    """A type that holds the values of all: text, where they have nothing else in common."""
    kinds = {array.type for array in arrays}
    if all(pa.types.is_dictionary(kind) for kind in kinds):
        inner = {kind.value_type for kind in kinds}
        value = inner.pop() if len(inner) == 1 else pa.string()
        same = all(array.dictionary.equals(arrays[0].dictionary) for array in arrays)
        ordered = same and all(kind.ordered for kind in kinds)
        return pa.dictionary(pa.int32(), value, ordered=ordered)
    plain = {kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds}
    if len(plain) == 1:
        return plain.pop()
    if all(pa.types.is_integer(kind) for kind in plain):
        return pa.string() if pa.uint64() in plain else pa.int64()
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in plain):
        return pa.float64()
    return pa.string()


def _as_kind(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_dictionary(kind):
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        return values.cast(kind)
    dictionary = values.dictionary.cast(kind.value_type)
    return pa.DictionaryArray.from_arrays(values.indices, dictionary, ordered=kind.ordered)


class GenePanel:
    """The genes of several files: each name once for each time that some file has it."""

    def __init__(self) -> None:
        self._tables: list[Table] = []
        """Of each file, the rows that no file before it had."""
        self._first: pa.Array | None = None
        self._places: dict[tuple[str, int], int] = {}
        self._files: Counter[int] = Counter()
        self._added = 0
        self.differ = False

    def add(self, table: Table) -> Array:
        """Take in a file's genes; returns the place of each, as int32."""
        self._added += 1
        keys = _numbered(table.index)
        places = np.empty(len(table), dtype=np.int32)
        new = []
        for row, key in enumerate(keys):
            if key not in self._places:
                self._places[key] = len(self._places)
                new.append(row)
            places[row] = self._places[key]
        self._files.update(places.tolist())
        if self._first is None:
            self._first = table.index
            self._tables.append(table)
            return places
        self.differ = self.differ or not table.index.equals(self._first)
        if new:
            self._tables.append(rows_of(table, pa.array(new, pa.int64())))
        return places

    @property
    def everywhere(self) -> int:
        """How many genes every file has."""
        return sum(1 for files in self._files.values() if files == self._added)

    def table(self, findings: Findings) -> Table:
        return join_tables(self._tables, "/var", findings)


def _numbered(index: pa.Array) -> list[tuple[str, int]]:
    """Each name with how many times it stood before: a name may be that of several genes."""
    seen: Counter[str] = Counter()
    keys = []
    for name in index.to_pylist():
        keys.append((name, seen[name]))
        seen[name] += 1
    return keys


def rows_of(table: Table, rows: pa.Array) -> Table:
    """Some rows of a table."""
    columns = [
        Column(column.name, pc.take(column.values, rows), column.nullable)
        for column in table.columns
    ]
    return Table(table.path, table.index.take(rows), table.index_name, columns, table.unread)
