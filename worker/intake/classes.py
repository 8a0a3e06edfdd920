"""What the values of a matrix are, judged by some of its rows: counts, or what was made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from worker.intake.lattice import SINGLE, whole_multiples
from worker.intake.rows import RowBlock, chosen_rows
from worker.intake.transformations import (
    ARCSINH,
    LOGARITHMS,
    SCALED,
    SQUARE_ROOT,
    STEEPEST_LOG,
    Floats,
    Transformation,
)

Kind = Literal["counts", "count-like", "log-normalised", "normalised", "rounded", "truncated"]
CODES: dict[Kind, str] = {
    "count-like": "fractional-values",
    "log-normalised": "log-normalised",
    "normalised": "normalised-values",
    "rounded": "rounded-cpm",
    "truncated": "truncated-values",
}
"""The finding that refuses a matrix of this kind, where it is refused."""

MOST_ROWS = 256
MOST_ENTRIES = 2**18
SCREENED_ROWS, SCREENED_ENTRIES = 24, 48
PROOF = 12.0
"""Evidence, as log10 of odds, from which values are taken for transformed counts."""
FEW_ENTRIES = 50
"""A row with as many expressed genes has some of its smallest counts among them."""
JUST_BELOW, JUST_ABOVE = 0.22, 0.02
"""Where corrected counts pile up: at whole numbers, and below them by what was taken away."""
SMALL, SMALLEST = 12.0, 0.5
PILED = 1.45
"""How much denser values must be there than chance puts them; decision 0053 has what was measured,
and which corrected counts are refused by it."""
EQUAL_SUMS = 1e-3
WHOLE_ROWS = 0.9
ROUND_TARGETS = (1e4, 1e5, 1e6)


@dataclass(frozen=True)
class Judged:
    """What the rows look like, and how one tells."""

    kind: Kind
    reason: str
    transformation: Transformation | None = None
    single: bool = False
    """Whether values carry no more than float32 does."""


def sample_rows(block: RowBlock) -> RowBlock:
    """Rows that have entries, spread over the block, as many as are judged at once."""
    filled = np.flatnonzero(np.diff(block.indptr))
    if len(filled) > MOST_ROWS:
        filled = filled[np.linspace(0, len(filled) - 1, MOST_ROWS).astype(np.int64)]
    size = np.cumsum(np.diff(block.indptr)[filled])
    return chosen_rows(block, filled[: max(1, int(np.searchsorted(size, MOST_ENTRIES)))])


def judge(rows: RowBlock) -> Judged:
    """The kind of values that are finite, not negative and not zero, in rows that have some."""
    values = rows.values.astype(np.float64)
    if not len(values):
        return Judged("counts", "it holds no value above zero in its first rows")
    sums = np.add.reduceat(values, rows.indptr[:-1])
    if (values == np.rint(values)).all():
        return _judge_whole(rows, values, sums)
    return _judge_fractions(rows, values, sums)


def _judge_whole(rows: RowBlock, values: Floats, sums: Floats) -> Judged:
    lowest = np.minimum.reduceat(values, rows.indptr[:-1])
    number = np.diff(rows.indptr)
    if _is_rounded_to_a_sum(sums, number):
        return Judged(
            "rounded", f"its values are whole, but every cell adds up to about {sums.mean():,.0f}"
        )
    many = number >= FEW_ENTRIES
    if many.sum() >= 10 and lowest[many].min() > 2:
        return Judged(
            "rounded",
            f"its values are whole, but no cell has a value below {lowest[many].min():,.0f}, as "
            "counts that were scaled have not",
        )
    return Judged("counts", "its first values are whole numbers")


def _is_rounded_to_a_sum(sums: Floats, number: npt.NDArray[np.int64]) -> bool:
    """Whether sums agree better than those of counts do, and are not equal, as thinned counts are.

    Rounding n values moves their sum by sqrt(n / 12); a Poisson draw moves it by its square root,
    which is sqrt(n) at least.
    """
    if len(sums) < 5 or sums.mean() < 1000:
        return False
    spread = float(sums.std())
    equal = np.unique(sums, return_counts=True)[1].max() / len(sums)
    if equal > 0.5:
        return False
    near_target = min(abs(sums.mean() / target - 1) for target in ROUND_TARGETS) < 5e-3
    narrow = spread < 0.58 * float(np.sqrt(number.mean()))
    return narrow or (near_target and spread < 5e-3 * float(sums.mean()))


def _judge_fractions(rows: RowBlock, values: Floats, sums: Floats) -> Judged:
    single = bool((values == values.astype(np.float32)).all())
    grain = _grain(values)
    if len(sums) >= 5 and sums.std() < EQUAL_SUMS * sums.mean():
        return Judged("normalised", f"every cell adds up to {sums.mean():,.6g}")
    whole_share = float((values == np.rint(values)).mean())
    if whole_share < 0.3 and _undone(rows, [SCALED], single=single, grain=grain):
        return Judged(
            "normalised", "its values are whole multiples of one step a cell: scaled counts"
        )
    if whole_share < 0.3 or not (_has_simple_fractions(values) or _are_rows_whole(rows, values)):
        judged = _judge_transformed(rows, values, single=single, grain=grain)
        if judged is not None:
            return judged
    return _judge_rest(values, whole_share, grain)


def _judge_transformed(
    rows: RowBlock, values: Floats, *, single: bool, grain: float
) -> Judged | None:
    if values.max() <= STEEPEST_LOG:
        found = _undone(rows, LOGARITHMS, single=single)
        if found is not None:
            return Judged(
                "log-normalised",
                f"its values are logarithms ({found.name}) of scaled counts",
                found,
                single,
            )
    found = _undone(rows, [SQUARE_ROOT, ARCSINH], single=single, grain=grain)
    if found is not None:
        return Judged("normalised", f"its values are counts under the {found.name}")
    return None


def _judge_rest(values: Floats, whole_share: float, grain: float) -> Judged:
    """Values that no transformation of counts explains."""
    if values.max() <= 1:
        return Judged("normalised", "no value is above 1, as of shares")
    if whole_share >= 0.5 or _is_piled(values):
        return Judged("count-like", "its values are close to whole numbers, as corrected counts")
    if values.max() <= STEEPEST_LOG:
        if (how := _how_truncated(values, grain)) is not None:
            return Judged("truncated", f"its values look like logarithms {how}")
        return Judged(
            "log-normalised",
            f"its values end at {values.max():.4g}, as logarithms do, but are not those of scaled "
            "counts",
        )
    return Judged("normalised", "its values are neither whole numbers nor close to them")


def _is_piled(values: Floats) -> bool:
    """Whether small values lie at and below whole numbers more than chance puts them there."""
    small = values[values < SMALL]
    if len(small) < 0.5 * len(values):
        return False
    small = small[small >= SMALLEST]
    if values.max() > STEEPEST_LOG:
        return bool(_density(small) > PILED + 5 / np.sqrt(len(small) + 1))
    # Logarithms of cells of one depth pile up somewhere, but not at one, two and three alike.
    nearest = np.rint(small)
    each = [small[nearest == number] for number in (1, 2, 3)]
    return bool(min(_density(part) - 5 / np.sqrt(len(part) + 1) for part in each) > PILED)


def _density(values: Floats) -> float:
    """At and just below whole numbers, relative to an even spread."""
    if not len(values):
        return 0.0
    above = values - np.rint(values)
    return float(((above > -JUST_BELOW) & (above <= JUST_ABOVE)).mean()) / (JUST_BELOW + JUST_ABOVE)


def _undone(
    rows: RowBlock, tried: Sequence[Transformation], *, single: bool, grain: float = 0.0
) -> Transformation | None:
    """The transformation that leaves whole multiples in every row, if one does beyond doubt."""
    best, most = None, PROOF
    for each in tried:
        screened = whole_multiples(_screen(rows), each, single=single, grain=grain, weigh=True)
        if not screened.fits.all() or screened.evidence <= PROOF:
            continue
        found = whole_multiples(rows, each, single=single, grain=grain, weigh=True)
        if found.fits.all() and found.evidence > most:
            best, most = each, found.evidence
    return best


def _screen(rows: RowBlock) -> RowBlock:
    """Some values of the fullest rows, from the smallest to the largest."""
    number = np.diff(rows.indptr)
    fullest = np.sort(np.argsort(-number, kind="stable")[:SCREENED_ROWS])
    parts = []
    for row in fullest:
        values = np.sort(rows.values[rows.indptr[row] : rows.indptr[row + 1]])
        places = np.linspace(0, len(values) - 1, min(len(values), SCREENED_ENTRIES))
        parts.append(values[places.astype(np.int64)])
    indptr = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    values = np.concatenate(parts)
    return RowBlock(0, indptr, np.zeros(len(values), dtype=np.int32), values)


def _are_rows_whole(rows: RowBlock, values: Floats) -> bool:
    """Whether nearly every row is counts, so that the others are damaged: undone as logarithms of
    base 2 or 10 all whole numbers become others, which would prove anything."""
    whole = np.logical_and.reduceat(values == np.rint(values), rows.indptr[:-1])
    return bool(whole.mean() > WHOLE_ROWS)


def _has_simple_fractions(values: Floats) -> bool:
    """Halves, thirds and the like, as tools leave that share a read among genes."""
    broken = values[values != np.rint(values)][:10_000]
    for denominator in (60, 84):
        product = broken * denominator
        near = np.abs(product - np.rint(product)) <= 4 * SINGLE * product
        if near.mean() > 0.9:
            return True
    return False


def _grain(values: Floats) -> float:
    """Half of the last decimal place, where values have at most four; else 0."""
    for places in (1, 2, 3, 4):
        shifted = values * 10.0**places
        if (np.abs(shifted - np.rint(shifted)) <= 4 * SINGLE * shifted).all():
            return 0.5 * 10.0**-places if shifted.max() < 1e6 else 0.0
    return 0.0


def _how_truncated(values: Floats, grain: float) -> str | None:
    if grain:
        return "that were rounded to a few decimal places"
    if (values == values.astype(np.float16)).all():
        return "in half precision"
    if (values == values.max()).sum() >= max(5, 1e-5 * len(values)):
        return f"that were cut off at {values.max():.4g}"
    return None
