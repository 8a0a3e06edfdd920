"""Features beside the matrices of several files, as one table of all their cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np

from app.problems import Problem
from worker.intake.attached import Attached, stored_by, widened
from worker.intake.findings import located
from worker.intake.limits import Limits
from worker.intake.rows import RowBlock, select
from worker.intake.values import Array, Survey

Reopen = Callable[[int], AbstractContextManager[list[Attached]]]


def join_attached(
    parts: Sequence[Sequence[Attached]], n_cells: Sequence[int], reopen: Reopen, limits: Limits
) -> Attached | None:
    """What is attached to any of the parts, by type and name; None where nothing is.

    Args:
        parts: of each file, proved.
        n_cells: of each file.
        reopen: the same of one file, to be read; only one is open at a time.

    Raises:
        Problem: two tables of one file hold the same feature, whose counts would be added up.
    """
    known: dict[tuple[str, str], int] = {}
    places = []
    for part in parts:
        own = [key for each in part for key in zip(each.types, each.names, strict=True)]
        if len(set(own)) != len(own):
            raise _repeated(part)
        places.append(np.array([known.setdefault(key, len(known)) for key in own], dtype=np.int32))
    if not known:
        return None

    def read(survey: Survey) -> Iterator[RowBlock]:
        first = 0
        for number, cells in enumerate(n_cells):
            for block in _rows_of(number, cells, reopen, limits):
                moved = select(block, places[number])
                yield RowBlock(first + block.first, moved.indptr, moved.indices, moved.values)
            first += cells

    asked = {each.asked for part in parts for each in part}
    names = ", ".join(dict.fromkeys(each.name for part in parts for each in part))
    return Attached(
        name=names,
        path="/parts",
        types=[kind for kind, _ in known],
        names=[name for _, name in known],
        n_rows=sum(n_cells),
        read=read,
        sizes=_sizes(parts, n_cells),
        asked=asked.pop() if len(asked) == 1 else None,
    )


def _repeated(part: Sequence[Attached]) -> Problem:
    names = " and ".join(f"`{each.name}`" for each in part)
    return located(
        "features-repeat",
        part[0].path,
        f"{names} of one file name the same feature.",
        "Keep one of the two, or name the modality that you mean with modality=...",
    )


def _rows_of(number: int, cells: int, reopen: Reopen, limits: Limits) -> Iterator[RowBlock]:
    none = RowBlock(
        0, np.zeros(cells + 1, dtype=np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    )
    with reopen(number) as attached:
        yield from widened([none], 0, attached, limits)


def _sizes(parts: Sequence[Sequence[Attached]], n_cells: Sequence[int]) -> Array:
    sizes: Array = np.zeros(sum(n_cells), dtype=np.int32)
    first = 0
    for part, cells in zip(parts, n_cells, strict=True):
        for each in part:
            sizes[first : first + cells] += stored_by(each)
        first += cells
    return sizes
