"""Counts for benchmarks: 2,000 genes, over-dispersed, about one count in ten above zero."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

N_TYPES = 8


def simulate(
    n_cells: int, batches: list[str], *, n_genes: int = 2000, seed: int = 0
) -> anndata.AnnData:
    """Cells of 8 types in batches that each multiply every gene by a factor of their own."""
    world, generator = np.random.default_rng(0), np.random.default_rng(seed)
    common = world.normal(-1.0, 1.6, n_genes)
    types = common + world.normal(0, 1.0, (N_TYPES, n_genes)) * (
        world.random((N_TYPES, n_genes)) < 0.1
    )
    theta = np.exp(world.normal(0.5, 0.7, n_genes))
    kind, batch = (
        generator.integers(N_TYPES, size=n_cells),
        generator.integers(len(batches), size=n_cells),
    )
    effects = np.stack(
        [np.random.default_rng(sum(name.encode())).normal(0, 0.3, n_genes) for name in batches]
    )
    rows = []
    for at in range(0, n_cells, 2000):
        mean = np.exp(types[kind[at : at + 2000]] + effects[batch[at : at + 2000]])
        depth = generator.lognormal(np.log(600), 0.4, (len(mean), 1))
        mean *= depth / mean.sum(1, keepdims=True)
        rows.append(
            sp.csr_matrix(
                generator.poisson(generator.gamma(theta, mean / theta)).astype(np.float32)
            )
        )
    obs = pd.DataFrame(
        {"batch": np.array(batches)[batch], "cell_type": [f"type {k}" for k in kind]},
        index=[f"cell-{seed}-{i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(n_genes)])
    return anndata.AnnData(sp.vstack(rows).tocsr(), obs=obs, var=var)
