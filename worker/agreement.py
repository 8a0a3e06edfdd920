"""Whether a mapping is what it was, and whether it finds labels that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from models_store.bundle import CELLS_FILE, read_manifest
from models_store.manifest import LabelLevel
from worker.canonical import CanonicalQuery
from worker.label_vote import vote
from worker.obs import MISSING, category_names


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
    levels = read_manifest(bundle).labels
    obs = CanonicalQuery.open(canonical).obs()
    if not levels or labels_key not in obs.columns or not (bundle / CELLS_FILE).exists():
        return None
    level = next((level for level in levels if level.key == labels_key), levels[0])
    reference = pd.read_parquet(bundle / CELLS_FILE)
    return share_found(reference, level, np.load(latent), category_names(obs[labels_key]))


def share_found(
    reference: pd.DataFrame,
    level: LabelLevel,
    latents: npt.NDArray[np.float32],
    given: pd.Series,
) -> float | None:
    """Share of cells whose label is that of most of their 15 nearest reference cells.

    Reference cells without a label have no vote: they are near a query cell without telling
    what it is.

    Args:
        reference: cells.parquet of the reference.
        level: its labels; what else the column of this name holds is none.
        latents: of the query, (cells, n_latent).
        given: labels of the query's cells; those whose label the reference lacks do not count.

    Returns:
        The share, 0 to 1; None where no cell counts.
    """
    # A level that the network does not predict lists cells without a value as a category.
    categories = [name for name in level.categories if name != MISSING]
    voters = reference[reference[level.key].isin(categories)]
    known = voters[level.key].to_numpy(dtype=np.str_)
    labels = given.astype(str).to_numpy(dtype=np.str_)
    counts = np.isin(labels, np.unique(known))
    if not counts.any():
        return None
    found = vote(_latents(voters, latents.shape[1]), known, latents[counts])
    return float(np.mean(found == labels[counts]))


def _latents(reference: pd.DataFrame, n_latent: int) -> npt.NDArray[np.float32]:
    return reference[[f"latent_{i}" for i in range(n_latent)]].to_numpy(dtype=np.float32)


def largest_difference(first: Path, second: Path) -> float:
    """Of any coordinate of two npy files; infinite where they differ in shape or are not finite."""
    a, b = np.load(first).astype(np.float64), np.load(second).astype(np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.abs(a - b).max(initial=0.0))
