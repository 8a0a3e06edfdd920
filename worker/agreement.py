"""Whether a mapping is what it was, and whether it finds labels that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from models_store.bundle import CELLS_FILE, read_manifest
from worker.canonical import CanonicalQuery
from worker.obs import category_names

NEIGHBOURS = 15


def label_agreement(bundle: Path, canonical: Path, latent: Path, labels_key: str) -> float | None:
    """Share of a mapped query's cells whose label their neighbours in the reference have.

    Labels are looked for at the reference's level of this name, or else at its first level.

    Args:
        bundle: folder of the reference's bundle.
        canonical: folder of the canonical query.
        latent: npy of the query's latents, (cells, n_latent).
        labels_key: the query's obs column.

    Returns:
        As `share_found`; None also where the reference has no cells or labels.
    """
    levels = [level.key for level in read_manifest(bundle).labels]
    obs = CanonicalQuery.open(canonical).obs()
    if not levels or labels_key not in obs.columns or not (bundle / CELLS_FILE).exists():
        return None
    level = labels_key if labels_key in levels else levels[0]
    reference = pd.read_parquet(bundle / CELLS_FILE)
    return share_found(reference, level, np.load(latent), category_names(obs[labels_key]))


def share_found(
    reference: pd.DataFrame, level: str, latents: npt.NDArray[np.float32], given: pd.Series
) -> float | None:
    """Share of cells whose label is that of most of their 15 nearest reference cells.

    Args:
        reference: cells.parquet of the reference.
        level: its column of labels.
        latents: of the query, (cells, n_latent).
        given: labels of the query's cells; those whose label the reference lacks do not count.

    Returns:
        The share, 0 to 1; None where no cell counts.
    """
    known = reference[level].astype(str).to_numpy(dtype=np.str_)
    labels = given.astype(str).to_numpy(dtype=np.str_)
    counts = np.isin(labels, np.unique(known))
    if not counts.any():
        return None
    found = _vote(_latents(reference), known, latents[counts])
    return float(np.mean(found == labels[counts]))


def _vote(
    reference: npt.NDArray[np.float32],
    labels: npt.NDArray[np.str_],
    query: npt.NDArray[np.float32],
) -> npt.NDArray[np.str_]:
    # Imported here: it takes a second, and most golden queries have no labels.
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(n_neighbors=min(NEIGHBOURS, len(reference)))
    return np.asarray(classifier.fit(reference, labels).predict(query))


def _latents(reference: pd.DataFrame) -> npt.NDArray[np.float32]:
    names = [f"latent_{i}" for i in range(sum(n.startswith("latent_") for n in reference.columns))]
    return reference[names].to_numpy(dtype=np.float32)


def largest_difference(first: Path, second: Path) -> float:
    """Of any coordinate of two npy files; infinite where they differ in shape or are not finite."""
    a, b = np.load(first).astype(np.float64), np.load(second).astype(np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.abs(a - b).max(initial=0.0))
