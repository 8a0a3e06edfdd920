"""The cells that a mapping's filter keeps, as a canonical query of their own.

What follows reads it as if just these cells had been uploaded, so its results are the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfile, rmtree
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from app.cell_filters import Clause, read_clauses
from app.problems import UnfitCellFilter, UnknownDesignColumn
from worker.canonical import CanonicalQuery
from worker.names import name_of
from worker.obs import find_column, listed
from worker.orders import MapOrder

FOLDER = "chosen-cells"

Kept = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Choice:
    """How many of a query's cells are mapped."""

    n_kept: int
    n_cells: int
    clauses: tuple[Clause, ...]

    def facts(self) -> dict[str, Any]:
        return {
            "clauses": [clause.as_dict() for clause in self.clauses],
            "n_kept": self.n_kept,
            "n_cells": self.n_cells,
        }


@contextmanager
def chosen_cells(order: MapOrder) -> Iterator[tuple[MapOrder, Choice | None]]:
    """The order to map the cells that its filter keeps; the very same where it has none.

    Their counts are written below the order's own folder, whence they are removed in the end.

    Raises:
        UnknownDesignColumn: a column that obs lacks.
        UnfitCellFilter: no cell is kept, or numbers are asked of a column that holds none.
    """
    clauses = read_clauses(order.options.get("cell_filter"))
    if not clauses:
        yield order, None
        return
    query, folder = CanonicalQuery.open(order.canonical), order.out / FOLDER
    kept = kept_cells(query.obs(), clauses)
    try:
        write_chosen(query, kept, folder)
        choice = Choice(int(kept.sum()), len(kept), tuple(clauses))
        yield replace(order, canonical=folder), choice
    finally:
        rmtree(folder, ignore_errors=True)


def kept_cells(obs: pd.DataFrame, clauses: Sequence[Clause]) -> Kept:
    """Which cells every clause keeps, (cells,)."""
    each = [_kept_by(obs, clause) for clause in clauses]
    kept = np.logical_and.reduce(each)
    if kept.any():
        return np.asarray(kept, dtype=bool)
    told = [
        f"{int(alone.sum()):,} by {json.dumps(clause.as_dict(), ensure_ascii=False)[:200]}"
        for alone, clause in zip(each, clauses, strict=True)
    ]
    raise UnfitCellFilter(
        f"The cell filter keeps none of the query's {len(obs):,} cells: {listed(told, most=5)}"
        f"{' and so none by all together' if len(each) > 1 else ''}.",
        fix="Correct the filter; the query's `inspection.columns` list their values.",
        errors=[
            {"pointer": f"/obs/{clause.column}", "detail": f"{int(alone.sum())} cells are kept"}
            for alone, clause in zip(each, clauses, strict=True)
        ],
    )


def _kept_by(obs: pd.DataFrame, clause: Clause) -> Kept:
    column = find_column(
        obs,
        clause.column,
        UnknownDesignColumn,
        fix="Name one of these columns in cell_filter.",
    )
    codes, present = pd.factorize(column)
    levels = clause.kept([*map(name_of, present), None])
    kept = np.array(levels, dtype=bool)[codes]  # the code of an absent value is -1
    return kept & _within_bounds(column, clause) if clause.is_bounded else kept


def _within_bounds(column: pd.Series, clause: Clause) -> Kept:
    numbers = pd.to_numeric(column.astype(object), errors="coerce").to_numpy(
        dtype=float, na_value=np.nan
    )
    if np.isnan(numbers).all():
        raise UnfitCellFilter(
            f"The cell filter asks for numbers in obs[{clause.column!r}], which holds none.",
            fix="Use `in` or `not_in` for a column of names.",
            errors=[{"pointer": f"/obs/{clause.column}", "detail": "holds no numbers"}],
        )
    low = -np.inf if clause.min is None else clause.min
    high = np.inf if clause.max is None else clause.max
    return np.asarray((numbers >= low) & (numbers <= high), dtype=bool)


def write_chosen(query: CanonicalQuery, kept: Kept, folder: Path) -> None:
    """Write these cells of a query, in its order; the counts stay on the disk."""
    folder.mkdir()
    cells = np.flatnonzero(kept)
    lengths = np.diff(query.indptr)[cells]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.save(folder / "indptr.npy", indptr)
    nnz = int(indptr[-1])
    for name in ("indices", "data"):
        _write_entries(getattr(query, name), query.indptr, cells, nnz, folder / f"{name}.npy")
    copyfile(query.folder / "genes.json", folder / "genes.json")
    _write_obs(query.folder / "obs.arrow", kept, folder / "obs.arrow")
    facts = json.loads((query.folder / "canonical.json").read_text())
    facts |= {"n_cells": len(cells), "nnz": nnz}
    (folder / "canonical.json").write_text(json.dumps(facts))


def _write_entries(
    source: npt.NDArray[Any],
    indptr: npt.NDArray[np.int64],
    cells: npt.NDArray[np.int64],
    nnz: int,
    path: Path,
) -> None:
    with path.open("wb") as file:
        header = {"descr": source.dtype.str, "fortran_order": False, "shape": (nnz,)}
        np.lib.format.write_array_header_1_0(file, header)
        for run in np.split(cells, np.flatnonzero(np.diff(cells) != 1) + 1):
            file.write(source[indptr[run[0]] : indptr[run[-1] + 1]].data)


def _write_obs(source: Path, kept: Kept, target: Path) -> None:
    with pa.memory_map(str(source)) as file:
        table = pa.ipc.open_file(file).read_all()
        chosen = table.filter(pa.array(kept)).combine_chunks()
    with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(chosen)
