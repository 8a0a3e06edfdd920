"""Whether a checked query has the samples, conditions and cells that a mapping speaks of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from app.cell_filters import Clause, names_of, read_clauses
from app.problems import UnfitCellFilter, UnknownControlValue, UnknownDesignColumn

SHOWN = 20

Columns = Mapping[str, Mapping[str, Any]]
"""What intake tells of each obs column, by its name."""


def check_design(described: Iterable[Mapping[str, Any]], options: Mapping[str, Any]) -> None:
    """Raise the first thing that cannot be, as far as the report of the check tells.

    A column of very many values, or one that looks private, lists none: the worker judges then.
    """
    columns = {str(column["name"]): column for column in described}
    for option in ("sample_key", "condition_key"):
        _check_column(columns, options.get(option), option)
    _check_controls(columns, options)
    clauses = read_clauses(options.get("cell_filter"))
    for clause in clauses:
        _check_column(columns, clause.column, "cell_filter")
    for clause in clauses:
        _check_clause(columns[clause.column], clause)


def _check_column(columns: Columns, name: str | None, option: str) -> None:
    if name is None or name in columns:
        return
    raise UnknownDesignColumn(
        f"The query's obs has no column {name!r}. Its columns: {', '.join(columns) or 'none'}.",
        fix=f"Name one of these columns in {option}, or leave it out.",
        errors=[{"pointer": f"/obs/{name}", "detail": "no such column"}],
        available=list(columns),
    )


def _check_controls(columns: Columns, options: Mapping[str, Any]) -> None:
    key, controls = options.get("condition_key"), list(options.get("control_values") or ())
    listed = columns[key].get("values") if key and controls else None
    if not listed:
        return
    present = [str(each["value"]) for each in listed]
    if names_of(controls) & set(present):
        return
    raise UnknownControlValue(
        f"No cell has {_shown(controls)} in obs[{key!r}]. Its values: {_shown(present)}.",
        fix="Name values of this column as control_values, as they are written in the file.",
        errors=[{"pointer": f"/obs/{key}", "detail": "has none of the control values"}],
        available=present,
    )


def _check_clause(column: Mapping[str, Any], clause: Clause) -> None:
    """Each clause by itself: together they may still keep nothing, which the worker finds."""
    listed = column.get("values")
    if listed is None:
        return
    cells = {str(each["value"]): int(each["cells"]) for each in listed}
    _check_numbers(cells, clause)
    absent = int(column.get("missing", 0))
    names: list[str | None] = [*cells, None]
    kept = [
        n
        for name, n, keeps in zip(names, [*cells.values(), absent], clause.kept(names), strict=True)
        if keeps and _within_bounds(name, clause)
    ]
    if sum(kept):
        return
    raise UnfitCellFilter(
        f"The cell filter keeps 0 of the {sum(cells.values()) + absent:,} cells by "
        f"obs[{clause.column!r}]. Its values: {_shown(list(cells))}.",
        fix="Correct the filter; values are compared as they are written in the file.",
        errors=[{"pointer": f"/obs/{clause.column}", "detail": "0 cells are kept"}],
    )


def _check_numbers(names: Iterable[str], clause: Clause) -> None:
    if not clause.is_bounded or any(_number(name) is not None for name in names):
        return
    raise UnfitCellFilter(
        f"The cell filter asks for numbers in obs[{clause.column!r}], which holds none.",
        fix="Use `in` or `not_in` for a column of names.",
        errors=[{"pointer": f"/obs/{clause.column}", "detail": "holds no numbers"}],
    )


def _within_bounds(name: str | None, clause: Clause) -> bool:
    if not clause.is_bounded:
        return True
    number = None if name is None else _number(name)
    if number is None:
        return False
    return (clause.min is None or number >= clause.min) and (
        clause.max is None or number <= clause.max
    )


def _number(name: str) -> float | None:
    # As numbers of a boolean column count for the worker.
    named = {"True": 1.0, "False": 0.0}.get(name)
    try:
        return float(name) if named is None else named
    except ValueError:
        return None


def _shown(names: list[Any]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(str(name) for name in names[:SHOWN]) + more
