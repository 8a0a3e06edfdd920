"""How far query cells lie among reference cells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

NEIGHBOURS = 30


def mixing(reference: Floats, query: Floats) -> float:
    """The share of reference cells around query cells, relative to chance.

    1: the two lie as if they were one population; 0: no query cell has a reference cell near it.
    Above 1, query cells are further from each other than from the reference.

    Args:
        reference: latents, (r, n_latent).
        query: latents, (q, n_latent), at least one cell.

    Returns:
        The mean over query cells of the share among the 30 nearest others in both together, divided
        by r / (r + q - 1).
    """
    from sklearn.neighbors import NearestNeighbors

    together = np.concatenate([reference, query])
    n_others = len(together) - 1
    n_neighbours = min(NEIGHBOURS, n_others)
    found = NearestNeighbors(n_neighbors=n_neighbours + 1).fit(together)
    neighbours = found.kneighbors(query, return_distance=False)
    others = _without_self(neighbours, np.arange(len(reference), len(together)))
    return float(np.mean(others < len(reference))) * n_others / len(reference)


def _without_self(
    neighbours: npt.NDArray[np.int64], cells: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """One neighbour fewer: the cell itself, or the furthest where its equals stand before it."""
    is_self = neighbours == cells[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    return np.reshape(neighbours[~is_self], (len(cells), -1))
