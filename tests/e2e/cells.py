"""Small simulated cells, written as h5ad: enough for a reference that trains in seconds."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

GENES = 200
TYPES = 3


def cells(n: int, batches: list[str], *, seed: int, genes: int = GENES) -> anndata.AnnData:
    """Over-dispersed counts of three cell types; every batch multiplies every gene by a factor."""
    world, sample = np.random.default_rng(7), np.random.default_rng(seed)
    profile = world.normal(0, 1, size=(TYPES, GENES))
    types = sample.integers(TYPES, size=n)
    batch = np.arange(n) % len(batches)
    factors = sample.normal(0, 0.4, size=(len(batches), GENES))
    rates = np.exp(profile[types] + factors[batch])
    depth = sample.lognormal(6.5, 0.3, size=(n, 1))
    mean = depth * rates / rates.sum(axis=1, keepdims=True)
    counts = sample.poisson(sample.gamma(2.0, mean / 2.0))[:, :genes].astype(np.float32)
    obs = pd.DataFrame(
        {
            "sample": pd.Categorical([batches[code] for code in batch]),
            "cell_type": pd.Categorical([f"type {code}" for code in types]),
            "reads": counts.sum(axis=1).astype(np.int64),
        },
        index=pd.Index([f"cell {seed}-{i}" for i in range(n)], dtype=object),
    )
    var = pd.DataFrame(index=pd.Index([f"Gene{i}" for i in range(genes)], dtype=object))
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=var)


def write(path: Path, adata: anndata.AnnData) -> Path:
    adata.write_h5ad(path)
    return path
