"""How far fitted rows may take the cells of a batch: no further than they stay mixed.

The ELBO also rises when new rows carry a batch away from the reference, since that lets the prior
and the decoder's own rows fit better. So fitted rows w are taken on a line from their start w₀,

    w(t) = w₀ + t (w - w₀),  0 ≤ t ≤ 1,

as far as the share of reference cells among a cell's nearest neighbours, in the mean over cells,
stays what it is at the start. Where the start itself is far away that share rises, and t is 1;
where cells are well mixed already it falls at once, and t is near 0. Labels play no part (decision
0065).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from worker.mixing import mixing

MOST_JUDGED = 512
"""Cells whose neighbours are counted: first by content."""
MOST_AMONG = 5000
"""Cells of the batch among which neighbours are looked for, and of the reference likewise."""
SHARES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
"""Places on the line that are looked at, from the far end; between two of them the share of
reference cells is taken as linear, so that t moves little when a count does."""

Place = Callable[[float], Float[Tensor, "q z"]]
"""Latents of a batch's cells with its rows at t, in an order of content."""


@dataclass(frozen=True)
class Restrained:
    """Where on the line the rows were left, and the mixing there and at both ends.

    Mixing is the share of reference cells around cells of the batch, relative to chance: near 1
    where both lie as one population, 0 where no reference cell is near.
    """

    share: float
    mixing_start: float
    mixing_fitted: float
    mixing: float


def restrain(reference: Float[Tensor, "r z"], place: Place, kept: float) -> Restrained:
    """The largest share of the way at which `kept` of the mixing at the start is there.

    Args:
        reference: latents of the reference's cells, at most `MOST_AMONG`.
        place: where the batch's cells are at t.
        kept: share of the mixing at the start that has to remain.
    """
    start = _mixing(reference, place(0.0))
    enough = kept * start
    fitted = further = _mixing(reference, place(1.0))
    if fitted >= enough:
        return Restrained(1.0, start, fitted, fitted)
    for above, share in pairwise(SHARES):
        here = _mixing(reference, place(share)) if share else start
        if here >= enough:
            beyond = (here - enough) / (here - further) if here > further else 0.0
            return Restrained(share + beyond * (above - share), start, fitted, enough)
        further = here
    return Restrained(0.0, start, fitted, start)


def _mixing(reference: Float[Tensor, "r z"], query: Float[Tensor, "q z"]) -> float:
    return mixing(reference, query, judged=MOST_JUDGED)
