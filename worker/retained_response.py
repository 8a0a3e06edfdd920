"""Whether cells of one label still tell conditions apart after they were mapped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Names = npt.NDArray[np.str_]

FEWEST_CELLS = 10
"""Of each condition within a label."""
FOLDS = 5


def retained_response(latents: Floats, labels: Names, condition: Names, seed: int) -> float | None:
    """How well the latent tells one condition from another within a label.

    A linear discriminant with shrinkage (Ledoit and Wolf) learns from four fifths of the cells of a
    label and is judged on the rest, five times over.

    Args:
        latents: of the cells, (c, n_latent).
        labels: of the cells, (c,).
        condition: of the cells, (c,).
        seed: decides the fifths.

    Returns:
        The mean area under the receiver's curve over labels and pairs of conditions, from 0.5
        (nothing is left) to 1; None where no label has enough cells of two conditions.
    """
    found = [
        _auroc(latents[cells], condition[cells], seed)
        for label in np.unique(labels)
        for cells in _pairs(np.flatnonzero(labels == label), condition)
    ]
    return float(np.mean(found)) if found else None


def _pairs(cells: npt.NDArray[np.int64], condition: Names) -> Iterator[npt.NDArray[np.int64]]:
    """The cells of each two conditions that have enough of them."""
    names, sizes = np.unique(condition[cells], return_counts=True)
    for pair in combinations(names[sizes >= FEWEST_CELLS], 2):
        yield cells[np.isin(condition[cells], pair)]


def _auroc(latents: Floats, condition: Names, seed: int) -> float:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    scores = cross_val_score(discriminant, latents, condition, cv=folds, scoring="roc_auc")
    return float(np.mean(scores))
