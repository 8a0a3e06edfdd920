"""How far fitted rows may take the cells of a batch: no further than they lie near and mixed.

The ELBO also rises when new rows carry a batch away from the reference, since that lets the prior
and the decoder's own rows fit better; and rows that are fitted to a few cells follow these cells'
chances as well. So fitted rows w are taken on a line from their start w₀,

    w(t) = w₀ + t (w - w₀),  0 ≤ t ≤ 1,

first to where the batch's cells lie **nearest** to the reference's: a shift that goes brings them
nearer, and what the rows follow beyond it takes them away again, however few the cells are. From
there they go back as far as the share of reference cells among a cell's nearest neighbours, in the
mean over cells, is less than at the start: a large batch may lie near and yet keep to itself.
Labels play no part (decision 0065).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from worker.mixing import mixing, remoteness

MOST_JUDGED = 512
"""Cells whose neighbours are counted: first by content."""
MOST_AMONG = 5000
"""Cells of the batch among which neighbours are looked for, and of the reference likewise."""
SHARES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
"""Places on the line that are looked at, from the far end. Between two of them the share of
reference cells is taken as linear and the distance to these as a parabola, so that t moves little
when a count does."""

Place = Callable[[float], Float[Tensor, "q z"]]
"""Latents of a batch's cells with its rows at t, in an order of content."""


@dataclass(frozen=True)
class Restrained:
    """Where on the line the rows were left, and how the batch lies there and at both ends.

    All three are counted. Between two places that were looked at, the place where so much mixing is
    left is taken from a line, so the last may come out a little below or above what was asked for.

    Mixing is the share of reference cells around cells of the batch, relative to chance: near 1
    where both lie as one population, 0 where no reference cell is near.
    """

    share: float
    mixing_start: float
    mixing_fitted: float
    mixing: float
    nearest: float = 1.0
    """The share at which the batch lies nearest to the reference; 1 also where nobody looked."""


def restrain(
    reference: Float[Tensor, "r z"], place: Place, kept: float, *, to_nearest: bool = False
) -> Restrained:
    """The largest share of the way to the nearest place at which `kept` of the mixing is there.

    Args:
        reference: latents of the reference's cells, at most `MOST_AMONG`.
        place: where the batch's cells are at t.
        kept: share of the mixing at the start that has to remain.
        to_nearest: whether rows go no further than to the nearest place; else to the fitted rows.
    """
    place = cache(place)
    nearest = _nearest(reference, place) if to_nearest else 1.0
    start, fitted = _mixing(reference, place(0.0)), _mixing(reference, place(1.0))
    enough = kept * start
    further = fitted if nearest == 1.0 else _mixing(reference, place(nearest))
    if further >= enough:
        return Restrained(nearest, start, fitted, further, nearest)
    for above, share in pairwise(SHARES):
        here = _mixing(reference, place(share * nearest)) if share else start
        if here >= enough:
            beyond = (here - enough) / (here - further) if here > further else 0.0
            found = nearest * (share + beyond * (above - share))
            there = _mixing(reference, place(found)) if beyond else here
            return Restrained(found, start, fitted, there, nearest)
        further = here
    return Restrained(0.0, start, fitted, start, nearest)


def _nearest(reference: Float[Tensor, "r z"], place: Place) -> float:
    """The share at which cells of the batch are nearest to cells of the reference."""
    shares = SHARES[::-1]
    return lowest(shares, [remoteness(reference, place(t), judged=MOST_JUDGED) for t in shares])


def lowest(places: Sequence[float], heights: Sequence[float]) -> float:
    """Where a curve is lowest, of which heights at places are known; of equals the first.

    The parabola through the lowest height and those beside it tells it between two places. At
    either end it is that of the end and the next two, so that nothing jumps where the lowest place
    becomes the last.

    Args:
        places: ascending, evenly spaced, at least three.
        heights: one for each.
    """
    at = min(range(len(places)), key=heights.__getitem__)
    middle = min(max(at, 1), len(places) - 2)
    before, here, after = heights[middle - 1 : middle + 2]
    bend = before - 2 * here + after
    if bend <= 0:
        return places[at]
    lowest_at = places[middle] + (places[1] - places[0]) * (before - after) / (2 * bend)
    return min(max(lowest_at, places[0]), places[-1])


def _mixing(reference: Float[Tensor, "r z"], query: Float[Tensor, "q z"]) -> float:
    return mixing(reference, query, judged=MOST_JUDGED)
