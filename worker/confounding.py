"""When batches and conditions of a query cannot be told apart, and what mapping then cannot say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Confounding:
    """Conditions that occur only in batches which have no other condition."""

    conditions: tuple[str, ...]
    """Those that are, sorted."""
    n_conditions: int
    batches: tuple[str, ...]
    """Theirs, sorted."""
    n_batches: int

    @property
    def is_complete(self) -> bool:
        """Whether the batch of any cell says its condition."""
        return len(self.conditions) == self.n_conditions


def find_confounding(
    pairs: Iterable[tuple[str, str | None]], *, known: Collection[str] = ()
) -> Confounding | None:
    """Look through the batch and the condition of every cell, or of every combination once.

    A condition is confounded where each batch that has it has only it: then nothing in the query
    tells an effect of the condition from one of the batch. With one batch, or one condition, there
    is nothing to confuse. Cells without a condition are passed over.

    Args:
        known: batches whose weights are the reference's and are not fitted, so absorb nothing.
    """
    in_batch, in_condition = defaultdict(set), defaultdict(set)
    for batch, condition in pairs:
        if condition is not None:
            in_batch[batch].add(condition)
            in_condition[condition].add(batch)
    if len(in_batch) < 2 or len(in_condition) < 2:
        return None
    alone = [
        condition
        for condition, batches in in_condition.items()
        if all(len(in_batch[batch]) == 1 for batch in batches) and not batches <= set(known)
    ]
    if not alone:
        return None
    batches = {batch for condition in alone for batch in in_condition[condition]}
    return Confounding(
        conditions=tuple(sorted(alone)),
        n_conditions=len(in_condition),
        batches=tuple(sorted(batches)),
        n_batches=len(in_batch),
    )


def confounding_told(found: Confounding, *, batch: str, condition: str, names: str) -> str:
    """What was found, and what cannot be told then.

    Args:
        batch: how the batch columns are shown to a person; `condition` likewise.
        names: the confounded conditions, shown.
    """
    if found.is_complete:
        what = f"Each batch of {batch} has one value of {condition} only"
    else:
        what = (
            f"{len(found.conditions):,} of {found.n_conditions:,} values of {condition} ({names}) "
            f"occur only in batches of {batch} that have no other"
        )
    return (
        f"{what}, so a batch effect and an effect of the condition cannot be told apart: the "
        "weights that surgery fits to a batch may absorb what the condition does. Conditions that "
        "lie together in the latent space may differ all the same, and where they lie apart, it "
        "may be the batch."
    )


CONFOUNDING_FIX = (
    "If batches of one run or plate hold several conditions, name that column as batch_key; or map "
    "with recipe `forward`, which fits nothing, or all cells as one batch, and compare."
)
