"""Simulated queries whose shift from the reference is chosen: weak, strong, composed otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import anndata
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

Floats = npt.NDArray[np.float64]

N_GENES, N_TYPES = 1000, 8
REFERENCE_BATCHES, QUERY_BATCHES = 4, 2
REFERENCE_CELLS, QUERY_CELLS = 1500, 600
DEPTH = 1200


@dataclass(frozen=True)
class Shift:
    """What is done to cells. Effects are standard deviations of a gene's log factor."""

    batch: float = 0.3
    study: float = 0.0
    """Shared by the query's batches, on three genes in ten."""
    types: tuple[int, ...] = tuple(range(N_TYPES))
    """Those that the query has."""
    stimulated: bool = False
    """Whether half of the cells of every batch respond to something, each type in its strength."""


class _World:
    """What is true of the genes: types in pairs of near ones, dispersion and a response."""

    def __init__(self, seed: int, shift: Shift) -> None:
        rng = np.random.default_rng(100 + seed)
        few = rng.random((N_TYPES, N_GENES)) < 0.1
        types = rng.normal(-1.0, 1.6, N_GENES) + rng.normal(0, 1, (N_TYPES, N_GENES)) * few
        nearly = rng.normal(0, 1, (N_TYPES, N_GENES)) * (rng.random((N_TYPES, N_GENES)) < 0.08)
        types[1::2] = types[::2] + nearly[1::2]
        self.types, self.theta = types, np.exp(rng.normal(0.5, 0.7, N_GENES))
        self.response = rng.normal(0, 1.2, N_GENES) * (rng.random(N_GENES) < 0.04)
        self.batches = rng.normal(0, shift.batch, (REFERENCE_BATCHES + QUERY_BATCHES, N_GENES))
        study = rng.normal(0, shift.study, N_GENES) * (rng.random(N_GENES) < 0.3)
        self.batches[REFERENCE_BATCHES:] += study

    def cells(
        self, rng: np.random.Generator, n: int, batches: range, shift: Shift
    ) -> anndata.AnnData:
        kind, batch = rng.choice(shift.types, n), rng.choice(batches, n)
        stimulated = (rng.random(n) < 0.5) & shift.stimulated
        strength = stimulated * (0.7 + 0.6 * (kind % 2))
        mean = np.exp(self.types[kind] + self.batches[batch] + strength[:, None] * self.response)
        mean *= rng.lognormal(np.log(DEPTH), 0.4, (n, 1)) / mean.sum(axis=1, keepdims=True)
        counts = rng.poisson(rng.gamma(self.theta, mean / self.theta)).astype(np.float32)
        columns = {
            "batch": [f"batch {b}" for b in batch],
            "cell_type": [f"type {k}" for k in kind],
            "condition": np.where(stimulated, "stimulated", "control"),
        }
        obs = pd.DataFrame(columns, index=[f"{batches.start}-{i}" for i in range(n)])
        var = pd.DataFrame(index=[f"GENE{i}" for i in range(N_GENES)])
        return anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=var)


def simulate_shift(shift: Shift, seed: int) -> tuple[anndata.AnnData, anndata.AnnData]:
    """The cells of a reference, and those of a query."""
    world, rng = _World(seed, shift), np.random.default_rng(seed)
    known, new = range(REFERENCE_BATCHES), range(REFERENCE_BATCHES, len(world.batches))
    everything = replace(shift, types=tuple(range(N_TYPES)))
    reference = world.cells(rng, REFERENCE_CELLS, known, everything)
    return reference, world.cells(rng, QUERY_CELLS, new, shift)
