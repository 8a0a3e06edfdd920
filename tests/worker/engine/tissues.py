"""Two tissues that share their genes: cells of each, and a small reference of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from tests.worker.engine.simulated import Reference, Simulated, build_reference

N_GENES = 200
SEEDS = {"lung": 11, "pancreas": 12}


def tissue(
    name: str, n_cells: int = 300, *, seed: int = 0, depth: float = 600, n_types: int = 3
) -> Simulated:
    """Cells of one tissue, of some types, from one batch that is each seed's own."""
    world, generator = np.random.default_rng(SEEDS[name]), np.random.default_rng(seed)
    common = np.random.default_rng(7).normal(0, 1.0, N_GENES)
    types = common + world.normal(0, 1.6, N_GENES) + world.normal(0, 0.7, (n_types, N_GENES))
    kind = generator.integers(0, n_types, n_cells)
    batch = np.random.default_rng(seed + 100).normal(0, 0.2, N_GENES)
    rate = np.exp(types[kind] + batch)
    library = depth * generator.lognormal(0, 0.2, (n_cells, 1))
    rate *= library / rate.sum(1, keepdims=True)
    counts = generator.poisson(generator.gamma(3.0, rate / 3.0)).astype(np.float32)
    labels = np.array([f"type {i}" for i in range(n_types)])[kind]
    obs = pd.DataFrame(
        {"batch": [f"{name}-{seed}"] * n_cells, "cell_type": labels},
        index=[f"{name}{seed}-{i}" for i in range(n_cells)],
    )
    return Simulated(sp.csr_matrix(counts), obs)


def joined(*parts: Simulated) -> Simulated:
    return Simulated(
        sp.vstack([part.counts for part in parts], format="csr"),
        pd.concat([part.obs for part in parts]),
    )


def thinned(cells: Simulated, share: float, *, seed: int = 0) -> Simulated:
    """The same cells, sequenced so much less deeply."""
    counts = cells.counts.copy()
    kept = np.random.default_rng(seed).binomial(counts.data.astype(int), share)
    counts.data = kept.astype(np.float32)
    counts.eliminate_zeros()
    return Simulated(counts, cells.obs)


@dataclass(frozen=True)
class Atlas:
    """A reference of each tissue."""

    lung: Reference
    pancreas: Reference


def build_atlas(folder: Path) -> Atlas:
    def built(name: str) -> Reference:
        cells = joined(*(tissue(name, 400, seed=seed) for seed in (1, 2, 3)))
        return build_reference(folder / name, cells, max_epochs=80, architecture={"n_hidden": 32})

    return Atlas(built("lung"), built("pancreas"))
