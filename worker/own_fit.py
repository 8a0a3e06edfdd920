"""How far a reference's own cells are from its forward pass: measured, or from simulated cells."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
import scipy.sparse as sp
import torch

from models_store.bundle import CELLS_FILE
from models_store.cvae import CVAE
from models_store.expectation import draw_codes, draw_latents
from models_store.feature_kinds import KINDS, FeatureKind
from models_store.layers import Codes
from models_store.manifest import Manifest, OwnFit
from models_store.misfit import Flags, Misfit, misfit, reconstruct, simulate_counts
from worker.alignment import row_hashes
from worker.thinning import first_by_content, in_order_of_content, thinned

LIBRARY_SIZES = (50, 100, 200, 400, 800)
"""Counts a cell at which cells are compared; more of them tell little more."""
MOST_CELLS = 500
FEWEST_CELLS = 10
FEWEST_JUDGES = 100
"""Held-out cells that are enough to judge by; with fewer, all cells do."""
REACHED_BY = 0.25
"""A library size is measured where so many of the cells have it."""


def measure_own_fit(
    manifest: Manifest, cvae: CVAE, rows: sp.csr_matrix, cells: Literal["held-out", "all"]
) -> tuple[OwnFit, ...] | None:
    """The misfit at each library size that the cells have; None where there is nothing to thin.

    Args:
        manifest: the reference's.
        cvae: its network, in eval mode.
        rows: counts of some of its cells, (c, genes of the panel).
        cells: whether these were held out.
    """
    if manifest.input != "counts":
        return None
    chosen = first_by_content(row_hashes(rows), np.arange(rows.shape[0]), MOST_CELLS)
    rows = in_order_of_content(rows[chosen])
    totals = np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()
    found = []
    for size in LIBRARY_SIZES:
        deep = rows[totals >= size]
        if deep.shape[0] < max(FEWEST_CELLS, REACHED_BY * rows.shape[0]):
            break
        measured = misfit_of(cvae, thinned(deep, size), np.ones(rows.shape[1], dtype=bool))
        found.append(
            OwnFit(
                library_size=size,
                misfit=round(measured.nats, 5),
                by_kind=_by_kind(measured, manifest),
                error=round(measured.error, 5),
                n_cells=deep.shape[0],
                cells=cells,
            )
        )
    return tuple(found) or None


def simulated_own_fit(cvae: CVAE, folder: Path, manifest: Manifest, library_size: int) -> Misfit:
    """The misfit of cells that the decoder draws, for a reference that has no measured one.

    At latents of its own cells where the bundle has them, else at z ~ N(0, I).
    """
    device = cvae.device
    z, codes = _latents(cvae, folder, manifest)
    on_device: Codes = tuple(code.to(device) for code in codes)
    x = simulate_counts(cvae, z.to(device), on_device, library_size)
    return misfit_of(cvae, x, np.ones(x.shape[1], dtype=bool))


def misfit_of(cvae: CVAE, x: sp.csr_matrix, covered: Flags) -> Misfit:
    """Of cells without a count in covered genes nothing can be said: they are left out."""
    has_some = x[:, np.flatnonzero(covered)].sum(axis=1) > 0
    x = x[np.flatnonzero(np.asarray(has_some))]
    runs = list(cvae.architecture.counts().values())
    return misfit(x, reconstruct(cvae, x), covered, runs)


def _by_kind(found: Misfit, manifest: Manifest) -> dict[FeatureKind, float] | None:
    """By kind of feature, where the panel has several; not of kinds without a count."""
    if len(manifest.genes.modalities or ()) < 2:
        return None
    known = zip(KINDS, found.by_run.tolist(), strict=True)
    return {kind: round(nats, 5) for kind, nats in known if np.isfinite(nats)}


def _latents(
    cvae: CVAE, folder: Path, manifest: Manifest
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    if CELLS_FILE not in manifest.files:
        z = draw_latents(cvae, MOST_CELLS, generator)
        return z, draw_codes(cvae, len(z), generator)
    names = [f"latent_{i}" for i in range(manifest.architecture.n_latent)]
    table = pq.read_table(folder / CELLS_FILE, columns=[*names, "batch"])
    chosen = torch.randperm(len(table), generator=generator)[:MOST_CELLS].numpy()
    cells = table.take(np.sort(chosen)).to_pandas()
    codes = draw_codes(cvae, len(cells), generator)
    position = {name: code for code, name in enumerate(manifest.batch.categories)}
    batch = cells["batch"].astype(str).map(position).fillna(0).to_numpy(dtype=np.int64)
    codes[0] = torch.from_numpy(batch)
    return torch.from_numpy(cells[names].to_numpy(dtype=np.float32)), codes
