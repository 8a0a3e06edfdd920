"""The batch of every cell by name: from one obs column, several, or none; and what to doubt."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import pandas as pd

from app.problems import TooManyBatches, UnknownBatchColumn
from worker.obs import MISSING, category_names, find_column, listed

LONE_BATCH = "query"
"""The one batch of a query that names no batch column."""
QUERY_SUFFIX = "-query"
JOINT = "_"
FEW_CELLS = 20
MANY_BATCHES = 50
MOST_BATCHES_PER_CELL = 0.5
"""A column with more categories than both bounds names cells or barcodes, not batches."""

Warning_ = dict[str, str]


def batch_names(obs: pd.DataFrame, keys: Sequence[str]) -> pd.Series:
    """The batch of every cell, as its columns call it.

    Raises:
        UnknownBatchColumn: a column that obs lacks.
        TooManyBatches: the columns look like an identifier of cells.
    """
    if not keys:
        return pd.Series(LONE_BATCH, index=obs.index, dtype=object)
    fix = "Name one of these columns as batch_key, or leave it out to treat all cells as one batch."
    columns = [find_column(obs, key, UnknownBatchColumn, fix=fix) for key in keys]
    names = _joined([category_names(column) for column in columns])
    _refuse_identifiers(names, keys)
    return names


def told_apart(names: pd.Series, taken: Collection[str]) -> tuple[pd.Series, dict[str, str]]:
    """A query batch that happens to be called like a reference batch is a new one all the same."""
    present, taken = set(names.unique()), set(taken)
    renamed: dict[str, str] = {}
    for name in sorted(present & taken):
        new = name + QUERY_SUFFIX
        while new in taken or new in present or new in renamed.values():
            new += QUERY_SUFFIX
        renamed[name] = new
    return names.replace(renamed), renamed


def batch_warnings(
    obs: pd.DataFrame, keys: Sequence[str], names: pd.Series, known: Collection[str]
) -> tuple[Warning_, ...]:
    """What a person should look at before trusting the new batches, those that are not known."""
    found = []
    absent = int(obs[list(keys)].isna().any(axis=1).sum()) if keys else 0
    if absent:
        found.append(
            {
                "code": "missing-batch",
                "detail": f"{absent:,} cells have no value in {_shown(keys)}; they form a batch of "
                f"their own, with {MISSING!r} for its name.",
                "fix": "Fill in the batch of these cells if it is known: cells of several batches "
                "in one cannot be corrected.",
            }
        )
    sizes = names.value_counts().sort_index()
    new = sizes[~sizes.index.isin(list(known))]
    few = new[new < FEW_CELLS]
    if len(few):
        examples = listed([f"{name} ({n})" for name, n in few.items()], most=5)
        found.append(
            {
                "code": "small-batches",
                "detail": f"{len(few):,} of {len(new):,} new batches have fewer than {FEW_CELLS} "
                f"cells: {examples}.",
                "fix": "So few cells say little about a batch, and a batch effect may remain: name "
                "a coarser column, or read these cells' results with care.",
            }
        )
    return tuple(found)


def _joined(columns: list[pd.Series]) -> pd.Series:
    """One name for each combination: two samples never become one because their names run on."""
    if len(columns) == 1:
        return columns[0]
    combined = pd.Series(list(zip(*columns, strict=True)), index=columns[0].index, dtype=object)
    joined = combined.map(JOINT.join)
    if joined.nunique() < combined.nunique():
        return combined.map(lambda names: json.dumps(names, ensure_ascii=False))
    return joined


def is_identifier(n_batches: int, n_cells: int) -> bool:
    """Whether so many categories name cells rather than batches."""
    return n_batches > max(MANY_BATCHES, MOST_BATCHES_PER_CELL * n_cells)


def _refuse_identifiers(names: pd.Series, keys: Sequence[str]) -> None:
    n_batches, n_cells = names.nunique(), len(names)
    if not is_identifier(n_batches, n_cells):
        return
    raise TooManyBatches(
        f"{_shown(keys)} has {n_batches:,} categories for {n_cells:,} cells: it looks like an "
        "identifier of cells, not of batches.",
        fix="Name the column that says which sample, donor or plate a cell is from.",
        errors=[{"pointer": f"/obs/{key}", "detail": "too many categories"} for key in keys],
    )


def _shown(keys: Sequence[str]) -> str:
    return " and ".join(f"obs[{key!r}]" for key in keys)
