"""Proteins in obsm: which table holds them, what they are called, and their counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from app.problems import Problem
from worker.intake.attached import Attached, tell_left_out
from worker.intake.columns import read_names
from worker.intake.counts import raw_blocks
from worker.intake.findings import Findings, located, reading
from worker.intake.matrices import matrix_at
from worker.intake.rows import ENTRIES, RowBlock
from worker.intake.source import Source, blocks
from worker.intake.tables import column_names, read_table
from worker.intake.values import Array, Survey, check_number_type

USUAL = "protein_expression"
"""What scvi-tools calls it: taken alone where there are others whose names tell of proteins."""
LIKE_PROTEINS = re.compile(r"protein|antibod|(?:^|[^a-z])adt(?:$|[^a-z])", re.IGNORECASE)
USUAL_NAMES = ("protein_names", "{key}_names")
"""Where in uns the names of the columns of an array are looked for."""
MOST_TRIED = 8
NAME_THEM = (
    "Store the table as a DataFrame with a column for each protein, or the names as a list in uns, "
    "and name that with protein_names_key=..."
)


@dataclass(frozen=True)
class ProteinTables:
    """The tables of obsm below one root, and what the caller said of them."""

    source: Source
    root: str
    key: str | None = None
    names_key: str | None = None
    known: tuple[str, ...] = ()
    """What the columns of an array are called if nothing in the file names them."""

    def named(self, cells: pa.Array) -> Attached:
        """The table that the caller named.

        Raises:
            Problem: there is none, it does not fit the cells, or it holds no counts.
        """
        assert self.key is not None
        found = self._keys()
        if self.key not in found:
            listed = ", ".join(f"`{name}`" for name in found[:20]) or "no table at all"
            raise located(
                "unknown-proteins",
                f"{self.root}/obsm/{self.key}",
                f"obsm has no table {self.key!r}; it has {listed}.",
                "Send the file again with one of these as proteins_key=..., or without.",
            )
        return replace(self._open(self.key, cells).proved(), asked=True)

    def likely(self) -> list[str]:
        """The tables whose names tell of proteins; the usual one alone where it is there."""
        found = [name for name in self._keys() if LIKE_PROTEINS.search(name)]
        return [USUAL] if USUAL in found else found[:MOST_TRIED]

    def proved(self, key: str, cells: pa.Array) -> Attached:
        """Raises Problem where the table does not fit the cells, or holds no counts."""
        return replace(self._open(key, cells).proved(), asked=False)

    def _keys(self) -> list[str]:
        return self.source.keys(f"{self.root}/obsm")

    def _open(self, key: str, cells: pa.Array) -> Attached:
        path, name = f"{self.root}/obsm/{key}", f"obsm/{key}"
        if self.source.is_group(path) and not self._is_sparse(path):
            return _Frame(self.source, path, name).opened(cells)
        matrix = matrix_at(self.source, name, path, path)
        _check_rows(matrix.shape[0], len(cells), path)
        names = self._names(key, matrix.shape[1], path)

        def read(survey: Survey) -> Iterator[RowBlock]:
            return raw_blocks(self.source, matrix, survey)

        return Attached.of_kind("protein", name, path, names, len(cells), read)

    def _is_sparse(self, path: str) -> bool:
        return self.source.has(f"{path}/indptr")

    def _names(self, key: str, width: int, path: str) -> pa.Array:
        """The names of an array's columns, which anndata keeps nowhere."""
        if self.names_key is not None:
            return self._names_at(self.names_key, width)
        for usual in USUAL_NAMES:
            if self.source.has(f"{self.root}/uns/{usual.format(key=key)}"):
                return self._names_at(usual.format(key=key), width)
        if len(self.known) == width:
            return pa.array(self.known, pa.string())
        raise located("names-missing", path, f"{path} does not name its columns.", NAME_THEM)

    def _names_at(self, key: str, width: int) -> pa.Array:
        path = f"{self.root}/uns/{key}"
        names = read_names(self.source, path)
        if not pa.types.is_string(names.type):
            raise located("names-not-text", path, f"{path} holds {names.type}, not names.")
        if len(names) != width:
            detail = f"{path} holds {len(names):,} values, not {width:,}."
            raise located("wrong-length", path, detail, NAME_THEM)
        return names


@dataclass(frozen=True)
class _Frame:
    """A DataFrame: each protein is a vector of its own."""

    source: Source
    path: str
    name: str

    def opened(self, cells: pa.Array) -> Attached:
        # Of the columns only the names are wanted here: none is read.
        table = read_table(self.source, self.path, Findings(), only=())
        _check_rows(len(table), len(cells), self.path)
        if not table.index.equals(cells):
            raise located(
                "shape-mismatch",
                self.path,
                f"{self.path} names its rows otherwise than obs names the cells.",
            )
        columns = [
            name
            for name in column_names(self.source, self.path)
            if name not in {table.index_name, "_index"}
        ]
        if not columns:
            raise located("no-cells", self.path, f"{self.path} has no columns.")
        names = pa.array(columns, pa.string())

        def read(survey: Survey) -> Iterator[RowBlock]:
            return self._bands(columns, len(cells), survey)

        return Attached.of_kind("protein", self.name, self.path, names, len(cells), read)

    def _bands(self, columns: list[str], n_cells: int, survey: Survey) -> Iterator[RowBlock]:
        for first, last in blocks(n_cells, max(1, 4 * ENTRIES // len(columns))):
            band = np.stack([self._part(name, n_cells, first, last) for name in columns], axis=1)
            rows, places = np.nonzero(band)
            values = band[rows, places]
            survey.look(values, _place(first, rows, places))
            indptr = np.searchsorted(rows, np.arange(last - first + 1))
            yield RowBlock(first, indptr, places.astype(np.int32), values)

    def _part(self, name: str, n_cells: int, first: int, last: int) -> Array:
        path = f"{self.path}/{name}"
        if self.source.is_group(path):
            raise located("column-encoding", path, f"{path} is no plain column of numbers.")
        dataset = self.source.vector(path, n_cells)
        check_number_type(dataset.dtype, path)
        with reading(path):
            values: Array = dataset[first:last].astype(np.float64)
        return values


def _place(first: int, rows: Array, places: Array) -> Callable[[int], tuple[int, int]]:
    return lambda at: (first + int(rows[at]), int(places[at]))


def _check_rows(number: int, n_cells: int, path: str) -> None:
    if number != n_cells:
        raise located(
            "shape-mismatch", path, f"{path} has {number:,} rows, and obs names {n_cells:,} cells."
        )


def find_proteins(tables: ProteinTables, cells: pa.Array, findings: Findings) -> Attached | None:
    """The table of proteins where it is unmistakable: one whose name and counts tell of them."""
    found: list[Attached] = []
    faults: list[tuple[str, Problem]] = []
    for key in tables.likely():
        try:
            found.append(tables.proved(key, cells))
        except Problem as problem:
            faults.append((key, problem))
    if len(found) == 1:
        return found[0]
    if found:
        listed = " and ".join(f"`{each.name}`" for each in found)
        findings.tell(
            "proteins-ambiguous",
            f"{tables.root}/obsm",
            f"{listed} may each hold the proteins, so neither is taken.",
            "Send the file again with proteins_key=... if you want its proteins.",
        )
    for key, fault in faults:
        if not found:
            tell_left_out(fault, f"obsm/{key}", "proteins", findings)
    return None
