"""Are the values of each row whole multiples of one step? Then they are scaled counts.

A row of scaled counts is y_j = k_j s with whole k_j and an unknown step s. The smallest value is
m s for some whole m, so m = 1, 2, ... are tried until every y_j m / y_min is whole within what
rounding to float32 can do to it. That gives the counts divided by their greatest common divisor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.intake.rows import RowBlock
from worker.intake.transformations import Floats, Transformation

SINGLE = 2.0**-24
"""The relative error of rounding to float32."""
ROUNDINGS = 2.0
"""How often a value was rounded on its way: when it was scaled, and when it was transformed."""
INFORMATIVE = 0.3
"""An error of a multiple beyond which being near a whole number says nothing."""
LARGEST_SMALLEST = 256
"""The largest m that is tried."""


@dataclass(frozen=True)
class Multiples:
    """What became of the rows of a block; rows without entries count as whole."""

    counts: Floats
    """By entry: whole numbers, or 0 in a row that did not fit."""
    steps: Floats
    """By row: what one count is worth; NaN in a row that did not fit or has no entries."""
    smallest: npt.NDArray[np.int64]
    """By row: the multiple that its smallest value was found to be."""
    fits: npt.NDArray[np.bool_]
    deviation: float
    """The largest distance of a multiple from its whole number."""
    evidence: float
    """log10 of how unlikely it is that values that are no multiples look like these by chance;
    0 where it was not asked for."""


@dataclass
class _Rows:
    """The entries of rows that have some."""

    scaled: Floats
    error: Floats
    owners: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    lowest: Floats
    lowest_error: Floats

    def only(self, rows: npt.NDArray[np.int64]) -> _Rows:
        number = np.diff(self.starts, append=len(self.scaled))
        chosen = np.zeros(len(self.starts), dtype=bool)
        chosen[rows] = True
        entries = chosen[self.owners]
        counts = number[rows]
        return _Rows(
            self.scaled[entries],
            self.error[entries],
            np.repeat(np.arange(len(rows)), counts),
            np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64),
            self.lowest[rows],
            self.lowest_error[rows],
        )

    def entries_of(self, rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        return rows[self.owners]


def whole_multiples(
    block: RowBlock,
    transformation: Transformation,
    *,
    single: bool,
    grain: float = 0.0,
    weigh: bool = False,
) -> Multiples:
    """Undo a transformation and find each row's step.

    Args:
        block: rows without stored zeros or negative values.
        transformation: what to undo.
        single: whether values carry no more than float32 does; a multiple so large that float32
            cannot tell it from its neighbours then does not fit.
        grain: half of the unit to which values were rounded, where they were; multiples about
            which that leaves nothing to say then fit.
        weigh: whether the evidence is asked for.
    """
    filled = np.flatnonzero(np.diff(block.indptr))
    result = _Result(len(block.values), len(filled))
    if len(filled):
        with np.errstate(over="ignore", invalid="ignore"):  # what is no number does not fit
            rows = _opened(block, filled, transformation, grain)
            _search(rows, result, _largest_error(single=single, grain=grain), weigh=weigh)
    return result.of(len(block), filled)


def _opened(
    block: RowBlock, filled: npt.NDArray[np.int64], transformation: Transformation, grain: float
) -> _Rows:
    values = block.values.astype(np.float64)
    scaled = transformation.undo(values)
    error = ROUNDINGS * SINGLE * (1.0 + transformation.amplification(values))
    if grain:
        error = error + grain * transformation.amplification(values) / values
    number = np.diff(block.indptr)[filled]
    starts = block.indptr[filled].astype(np.int64)
    return _Rows(
        scaled,
        error,
        np.repeat(np.arange(len(filled)), number),
        starts,
        np.minimum.reduceat(scaled, starts),
        np.maximum.reduceat(error, starts) if grain else np.minimum.reduceat(error, starts),
    )


class _Result:
    def __init__(self, n_entries: int, n_rows: int) -> None:
        self.counts = np.zeros(n_entries)
        self.smallest = np.zeros(n_rows, dtype=np.int64)
        self.steps = np.full(n_rows, np.nan)
        self.deviation = 0.0
        self.evidence = 0.0

    def of(self, n_rows: int, filled: npt.NDArray[np.int64]) -> Multiples:
        steps, smallest = np.full(n_rows, np.nan), np.zeros(n_rows, dtype=np.int64)
        fits = np.ones(n_rows, dtype=bool)
        steps[filled], smallest[filled] = self.steps, self.smallest
        fits[filled] = self.smallest > 0
        return Multiples(self.counts, steps, smallest, fits, self.deviation, self.evidence)


@dataclass(frozen=True)
class _Bounds:
    tolerance: float
    """The largest distance from a whole number, whatever the error may be."""
    error: float
    """The largest error of a multiple."""


def _largest_error(*, single: bool, grain: float) -> _Bounds:
    if grain:
        return _Bounds(np.inf, np.inf)
    return _Bounds(INFORMATIVE, INFORMATIVE if single else np.inf)


def _search(rows: _Rows, result: _Result, bounds: _Bounds, *, weigh: bool) -> None:
    """Try each m on the rows that no smaller one fits; nearly all have a count of one."""
    entries, pending, left = np.arange(len(rows.scaled)), np.arange(len(rows.starts)), rows
    for multiple in range(1, LARGEST_SMALLEST + 1):
        tried = _try(left, multiple, bounds)
        if tried.any():
            found = left.entries_of(tried)
            quotient = left.scaled[found] * (multiple / left.lowest[left.owners[found]])
            whole = np.rint(quotient)
            result.counts[entries[found]] = whole
            result.smallest[pending[tried]] = multiple
            result.steps[pending[tried]] = left.lowest[tried] / multiple
            result.deviation = max(result.deviation, float(np.abs(quotient - whole).max()))
            result.evidence += _evidence(left, found, whole, multiple) if weigh else 0.0
            if tried.all():
                return
            entries, pending = entries[~found], pending[~tried]
            left = left.only(np.flatnonzero(~tried))


def _try(rows: _Rows, multiple: int, bounds: _Bounds) -> npt.NDArray[np.bool_]:
    quotient = rows.scaled * (multiple / rows.lowest)[rows.owners]
    whole = np.rint(quotient)
    error = whole * (rows.error + rows.lowest_error[rows.owners])
    near = np.abs(quotient - whole) <= np.minimum(error, bounds.tolerance)
    found: npt.NDArray[np.bool_] = np.logical_and.reduceat(
        near & (error <= bounds.error), rows.starts
    )
    return found


def _evidence(rows: _Rows, found: npt.NDArray[np.bool_], whole: Floats, multiple: int) -> float:
    """Each distinct value above the lowest is a chance to miss, each m tried one to hit."""
    owners = rows.owners[found]
    tolerance = np.minimum(whole * (rows.error[found] + rows.lowest_error[owners]), 0.5)
    _, first = np.unique(owners * 2.0**32 + whole, return_index=True)
    above = whole[first] > multiple
    hit = -np.log10(2 * tolerance[first][above]).sum()
    return float(hit - len(np.unique(owners)) * np.log10(multiple))
