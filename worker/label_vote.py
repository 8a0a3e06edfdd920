"""Labels by the vote of the nearest reference cells, and how well they agree with known ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.str_]

NEIGHBOURS = 15


def vote(
    reference: Floats,
    labels: Labels,
    query: Floats,
    *,
    weights: Literal["uniform"] | Callable[[Floats], Floats] = "uniform",
) -> Labels:
    """The label with most votes, or most weight, among 15 neighbours; of equals the first by name.

    Args:
        reference: latents, (r, n_latent).
        labels: of the reference's cells, (r,).
        query: latents, (q, n_latent).
        weights: of the votes, from the distances of the neighbours, (q, neighbours).

    Returns:
        A label for each query cell, (q,).
    """
    # Imported here: it takes a second, and most golden queries have no labels.
    from sklearn.neighbors import KNeighborsClassifier

    n_neighbours = min(NEIGHBOURS, len(reference))
    classifier = KNeighborsClassifier(n_neighbors=n_neighbours, weights=weights)
    return np.asarray(classifier.fit(reference, labels).predict(query))


def nearness(distances: Floats) -> Floats:
    """The weights of scArches and of the HLCA: exp(-d / (2 / s)²), s the deviation of a cell's d.

    Lotfollahi et al. 2022, `weighted_knn_transfer` in `scarches/utils/knn.py`, whose weights are
    divided by their sum, which changes no vote. Neighbours at one distance weigh the same.

    Args:
        distances: Euclidean, of each query cell to its neighbours, (q, neighbours).

    Returns:
        Weights of the same shape.
    """
    spread = np.std(distances, axis=1, keepdims=True)
    return np.asarray(np.exp(-distances * (spread / 2) ** 2))


def macro_f1(given: Labels, found: Labels) -> float:
    """The mean of the F1 of each label that occurs among the given ones, 0 to 1."""
    from sklearn.metrics import f1_score

    labels = np.unique(given)
    return float(f1_score(given, found, labels=labels, average="macro", zero_division=0.0))
