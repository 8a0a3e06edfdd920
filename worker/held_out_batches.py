"""Which whole batches a search for a recipe holds out, one fold after the other."""

from __future__ import annotations

import math

import numpy as np

from worker.known_cells import NO_NAME, KnownCells, Names

MOST_FOLDS = 2
FEWEST_HELD_OUT = 200
"""Cells of a fold: several small batches are held out together."""
FEWEST_LEFT, SMALLEST_SHARE_LEFT = 500, 0.4
"""What a fold's network has to learn from: so many cells, and so much of all of them."""
FEWEST_OF_A_KIND = 5
"""Cells by which a batch is said to have a label or a condition."""


def held_out_batches(cells: KnownCells) -> list[tuple[str, ...]]:
    """The batches of each fold, at most two folds, which share none; none where too little is left.

    First those that have several conditions, then those with the most labels that other batches
    have as well, then those whose size is nearest to the middle one.
    """
    names, sizes = (each.tolist() for each in np.unique(cells.batch, return_counts=True))
    size, middle = dict(zip(names, sizes, strict=True)), float(np.median(sizes))
    labels, conditions = _held(cells.batch, cells.labels), _held(cells.batch, cells.condition)

    def rank(batch: str) -> tuple[bool, int, float, str]:
        elsewhere = set().union(*(labels[each] for each in names if each != batch))
        distance = abs(math.log(size[batch] / middle))
        return len(conditions[batch]) < 2, -len(labels[batch] & elsewhere), distance, batch

    most = len(cells) - max(FEWEST_LEFT, math.ceil(SMALLEST_SHARE_LEFT * len(cells)))
    left, folds = sorted(names, key=rank), list[tuple[str, ...]]()
    while len(folds) < MOST_FOLDS and (chosen := _gather(left, size, most)):
        folds.append(chosen)
        left = [batch for batch in left if batch not in chosen]
    return folds


def _gather(batches: list[str], size: dict[str, int], most: int) -> tuple[str, ...]:
    """The first batches that have enough cells together, passing over what would be too many."""
    chosen, n = list[str](), 0
    for batch in batches:
        if n + size[batch] <= most:
            chosen.append(batch)
            n += size[batch]
        if n >= FEWEST_HELD_OUT:
            return tuple(chosen)
    return ()


def _held(batch: Names, kind: Names) -> dict[str, set[str]]:
    """By batch, the names that enough of its cells have."""
    found: dict[str, set[str]] = {name: set() for name in np.unique(batch).tolist()}
    named = kind != NO_NAME
    pairs, sizes = np.unique(np.stack([batch[named], kind[named]]), axis=1, return_counts=True)
    for name, each in pairs[:, sizes >= FEWEST_OF_A_KIND].T.tolist():
        found[name].add(each)
    return found
