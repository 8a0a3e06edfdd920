"""Counts from logarithms of scaled counts, each row proved to be just that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.intake.lattice import SINGLE, Multiples, whole_multiples
from worker.intake.limits import LARGEST_COUNT
from worker.intake.rows import RowBlock, chosen_rows, merged
from worker.intake.transformations import Floats, Transformation
from worker.intake.values import Survey

FEW_ENTRIES = 8
"""Counts of so few genes may all be even by chance: only their ratios are proved."""
TARGETS = (1e4, 1e6, 1e5, 1e3)
"""What counts of a cell are usually scaled to."""
LARGEST_FACTOR = 256


@dataclass(frozen=True)
class Depths:
    """What tells the whole factor that the ratios of a cell's counts leave open."""

    target: float | None = None
    """What every cell was scaled to, of which its step is a whole part."""
    totals: Floats | None = None
    """Counts of each cell by a column of obs, in proportion to one over the step."""

    @property
    def target_sum(self) -> float | None:
        """The target, where it is in counts."""
        in_counts = self.totals is None or bool((self.totals == np.rint(self.totals)).all())
        return self.target if in_counts else None

    def factors(self, first: int, steps: Floats) -> Floats:
        """By row: the factor, or NaN where nothing tells it."""
        factors = np.full(len(steps), np.nan)
        if self.target is None:
            return factors
        if self.totals is not None:
            ratio = self.totals[first : first + len(steps)] * steps / self.target
            known = np.abs(ratio - np.rint(ratio)) < 1e-3 * np.maximum(ratio, 1)
            return np.where(known & (ratio > 0.5), np.rint(ratio), np.nan)
        depth = self.target / steps
        open_ = np.flatnonzero(np.isfinite(depth))
        for factor in range(1, LARGEST_FACTOR + 1):
            whole = _is_whole(depth[open_] * factor)
            factors[open_[whole]] = factor
            open_ = open_[~whole]
            if not len(open_):
                break
        return factors


def _is_whole(depth: Floats) -> npt.NDArray[np.bool_]:
    tolerance = np.minimum(np.maximum(16 * SINGLE * depth, 1e-6), 0.1)
    with np.errstate(invalid="ignore"):
        whole: npt.NDArray[np.bool_] = np.abs(depth - np.rint(depth)) <= tolerance
    return whole


def find_depths(
    rows: RowBlock, found: Multiples, columns: Sequence[Floats], cells: npt.NDArray[np.int64]
) -> Depths:
    """What the cells were scaled to, and the column of obs that says how deep each is.

    Args:
        rows: a sample of scaled rows, with what was found of them.
        columns: of obs, numbers of cells; a column that agrees with every step proves itself.
        cells: the position of each row of the sample among the cells.
    """
    sure = np.diff(rows.indptr) >= FEW_ENTRIES
    if sure.sum() < 5:
        return Depths()
    steps = found.steps[sure]
    for column in columns:
        target = column[cells[sure]] * steps
        if np.isfinite(target).all() and target.min() > 0 and np.ptp(target) < 1e-5 * target.mean():
            return Depths(float(np.median(target)), column)
    for target_sum in TARGETS:
        if _is_whole(target_sum / steps).mean() > 0.99:
            return Depths(target_sum)
    return Depths()


@dataclass
class Recovery:
    """Undoes a transformation block by block; a row that does not fit becomes a fault."""

    transformation: Transformation
    single: bool
    n_genes: int
    survey: Survey
    depths: Depths = field(default_factory=Depths)
    deviation: float = 0.0
    round_trip: float = 0.0
    undetermined: int = 0

    def counts(self, blocks: Iterable[RowBlock]) -> Iterator[RowBlock]:
        for block in blocks:
            if self.survey.is_clean:
                yield self._recover(merged(block, self.n_genes))
            else:
                yield block  # its values were looked at; no more is wanted of it

    def _recover(self, block: RowBlock) -> RowBlock:
        found = whole_multiples(block, self.transformation, single=self.single)
        if not found.fits.all():
            self._refuse(block, np.flatnonzero(~found.fits))
            return block
        number = np.diff(block.indptr)
        factors = self._factors(block.first, found.steps, number)
        counts = found.counts * np.repeat(factors, number)
        if len(counts) and counts.max() > LARGEST_COUNT:
            self._refuse(block, np.array([_row_of(block, int(counts.argmax()))]))
            return block
        self.deviation = max(self.deviation, found.deviation)
        self._go_back(block, counts, number)
        return RowBlock(block.first, block.indptr, block.indices, counts)

    def _factors(self, first: int, steps: Floats, number: npt.NDArray[np.int64]) -> Floats:
        factors = self.depths.factors(first, steps)
        unknown = np.isnan(factors)
        # That a depth is whole speaks for a factor, but as much for its multiples.
        open_ = unknown if self.depths.totals is not None else np.ones(len(steps), dtype=bool)
        self.undetermined += int((open_ & (number > 0) & (number < FEW_ENTRIES)).sum())
        return np.where(unknown, 1.0, factors)

    def _go_back(self, block: RowBlock, counts: Floats, number: npt.NDArray[np.int64]) -> None:
        """Scale and transform the counts again: how far that is from what the file holds."""
        if not len(counts):
            return
        filled = np.flatnonzero(number)
        starts = block.indptr[:-1][filled]
        scaled = self.transformation.undo(block.values.astype(np.float64))
        step = np.add.reduceat(scaled, starts) / np.add.reduceat(counts, starts)
        again = self.transformation.redo(counts * np.repeat(step, number[filled]))
        self.round_trip = max(self.round_trip, float(np.abs(again - block.values).max()))

    def _refuse(self, block: RowBlock, rows: npt.NDArray[np.int64]) -> None:
        at = int(block.indptr[rows[0]])
        place = (block.first + int(rows[0]), int(block.indices[at]))
        self.survey.note("log-normalised", place, float(block.values[at]), len(rows))

    def facts(self) -> dict[str, Any]:
        """The proof, as the report shows it."""
        return {
            "from": "log-normalised",
            "base": self.transformation.base,
            "target_sum": self.depths.target_sum,
            "max_deviation": self.deviation,
            "max_error": self.round_trip,
            "undetermined_cells": self.undetermined,
        }


def _row_of(block: RowBlock, at: int) -> int:
    return int(np.searchsorted(block.indptr, at, side="right")) - 1


def prepare(
    block: RowBlock,
    transformation: Transformation,
    *,
    single: bool,
    n_genes: int,
    survey: Survey,
    columns: Sequence[Floats],
) -> Recovery:
    """A recovery that has learned from its first block what cells were scaled to."""
    rows = merged(block, n_genes)
    filled = np.flatnonzero(np.diff(rows.indptr))[:2000]
    chosen = chosen_rows(rows, filled)
    found = whole_multiples(chosen, transformation, single=single)
    depths = find_depths(chosen, found, columns, block.first + filled)
    return Recovery(transformation, single, n_genes, survey, depths)
