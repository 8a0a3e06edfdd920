"""The canonical query on disk: the only form in which the worker computes on an upload."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_matrix

from models_store.gene_columns import QueryGenes


@dataclass(frozen=True)
class CanonicalQuery:
    """Counts as memory-mapped CSR, the gene table and obs of one accepted query."""

    folder: Path
    n_cells: int
    n_genes: int
    nnz: int
    input: str
    counts_from: str
    dropped: dict[str, list[str]]
    counts_class: str | None = None
    """What the values were taken for; None where nobody asked."""
    recovered: dict[str, Any] | None = None
    """The proof that these are the counts behind log-normalised values."""
    rounded: bool = False

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a folder that intake wrote; the matrix stays on disk.

        Raises:
            ValueError: the folder is not a canonical query, or its files do not fit together.
        """
        facts = json.loads((folder / "canonical.json").read_text())
        if facts.pop("format") != 1:
            raise ValueError(f"{folder} has a format of canonical query that is unknown here")
        query = cls(folder, **facts)
        lengths = (len(query.indptr), len(query.indices), len(query.data))
        if lengths != (query.n_cells + 1, query.nnz, query.nnz):
            raise ValueError(f"{folder} holds arrays of lengths {lengths}, which do not fit")
        return query

    @property
    def origin(self) -> dict[str, Any]:
        """Where the counts came from and what was made of them."""
        facts = {"counts_from": self.counts_from, "counts_class": self.counts_class}
        return {**facts, "recovered": self.recovered, "rounded": self.rounded}

    @cached_property
    def indptr(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return self._array("indptr")

    @cached_property
    def indices(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        return self._array("indices")

    @cached_property
    def data(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        return self._array("data")

    def rows(self, start: int, stop: int) -> csr_matrix:
        """Cells `start` to `stop` as float32 CSR, copied into memory."""
        stop = min(stop, self.n_cells)
        indptr = np.asarray(self.indptr[start : stop + 1])
        first, last = int(indptr[0]), int(indptr[-1])
        arrays = (self.entries("data", first, last), self.entries("indices", first, last))
        return csr_matrix((*arrays, indptr - first), shape=(stop - start, self.n_genes))

    def entries(self, array: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Part of `data` or `indices`, read into memory.

        Pages that are mapped would be counted as this process's own, in the end all of them.
        """
        mapped = getattr(self, array)
        offset = mapped.offset + start * mapped.itemsize
        found: np.ndarray[Any, Any] = np.fromfile(
            self.folder / f"{array}.npy", mapped.dtype, stop - start, offset=offset
        )
        return found

    def gene_columns(self) -> dict[str, list[str]]:
        """Every column that may name genes, the var index first."""
        table = json.loads((self.folder / "genes.json").read_text())
        return {"index": table["index"], **table["columns"]}

    def feature_types(self) -> list[str] | None:
        """What each feature is, as its file calls it; None where it says nothing."""
        table = json.loads((self.folder / "genes.json").read_text())
        types: list[str] | None = table.get("feature_types")
        return types

    def genes(self) -> QueryGenes:
        """The same columns, as they are matched with the genes of a reference."""
        return QueryGenes.stored(json.loads((self.folder / "genes.json").read_text()))

    def obs(self) -> pd.DataFrame:
        """The table of cells as uploaded, in order, with pandas' types for each encoding."""
        with pa.memory_map(str(self.folder / "obs.arrow")) as source:
            table = pa.ipc.open_file(source).read_all()
            last = table.num_columns - _has_unique(table)
            index_name = json.loads(table.schema.metadata[b"index_name"])
            index = pd.Index(table.column(0).to_pylist(), dtype=object, name=index_name)
            columns = [
                _series(table.column(at), table.schema.field(at), index) for at in range(1, last)
            ]
        names = table.schema.names[1:last]
        frame = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=index)
        frame.columns = pd.Index(names, dtype=object)
        return frame

    def unique_names(self) -> list[str] | None:
        """A name of its own for every cell, where names as uploaded occur again."""
        with pa.memory_map(str(self.folder / "obs.arrow")) as source:
            table = pa.ipc.open_file(source).read_all()
            if not _has_unique(table):
                return None
            names: list[str] = table.column(table.num_columns - 1).to_pylist()
            return names

    def rows_of(self, cells: np.ndarray[Any, np.dtype[np.int64]]) -> csr_matrix:
        """Chosen cells, ascending, as float32 CSR, copied into memory; no others are read."""
        starts, stops = self.indptr[cells], self.indptr[cells + 1]
        indptr = np.concatenate([[0], np.cumsum(stops - starts)])
        breaks = np.flatnonzero(starts[1:] != stops[:-1]) + 1
        first = np.concatenate([starts[:1], starts[breaks]])
        last = np.concatenate([stops[breaks - 1], stops[-1:]])
        runs = list(zip(first.tolist(), last.tolist(), strict=True))
        arrays = (self._gathered("data", runs), self._gathered("indices", runs))
        return csr_matrix((*arrays, indptr), shape=(len(cells), self.n_genes))

    def _gathered(self, name: str, runs: Sequence[tuple[int, int]]) -> np.ndarray[Any, Any]:
        """Entries of several ranges, one after the other.

        They are read, as pages that are mapped for a few entries would take more memory than them.
        """
        mapped = getattr(self, name)
        found = np.empty(sum(last - first for first, last in runs), mapped.dtype)
        room, size, at = found.view(np.uint8).data, found.itemsize, 0
        with (self.folder / f"{name}.npy").open("rb", buffering=0) as file:
            for first, last in runs:
                upto = at + (last - first) * size
                file.seek(mapped.offset + first * size)
                if file.readinto(room[at:upto]) != upto - at:
                    raise ValueError(f"{name}.npy of {self.folder} is cut short")
                at = upto
        return found

    def _array(self, name: str) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return found


def _has_unique(table: pa.Table) -> bool:
    """Whether the last column holds unique names; canonical queries of earlier have none."""
    return bool(json.loads(table.schema.metadata.get(b"unique", b"false")))


def _series(values: pa.ChunkedArray, field: pa.Field, index: pd.Index) -> pd.Series:
    if (field.metadata or {}).get(b"nullable") == b"true":
        dtype = _nullable_type(field.type)
        return pd.Series(pd.array(values.to_pylist(), dtype=dtype), index=index)
    series: pd.Series = values.to_pandas()
    series.index = index
    return series


def _nullable_type(kind: pa.DataType) -> Any:
    if pa.types.is_string(kind):
        return pd.StringDtype()
    if pa.types.is_boolean(kind):
        return pd.BooleanDtype()
    return {"int": "Int", "uint": "UInt"}[str(kind).rstrip("0123456789")] + str(kind).lstrip("uint")
