"""The sets of cells that convergence is measured on: a reference and one batch of query cells."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import numpy.typing as npt

from bench.simulated import simulate

DATA = Path(os.environ.get("BENCH_DATA", "../shared/data"))
CITESEQ = DATA / "pbmc_citeseq_10k5k" / "pbmc_citeseq_10k5k.h5ad"
CITESEQ_REFERENCE = "pbmc10k_v3"
HELD_OUT = 0.1


@dataclass(frozen=True)
class QuerySet:
    """One batch of query cells, and the cells of its reference."""

    reference: anndata.AnnData
    query: anndata.AnnData
    training: npt.NDArray[np.int64]
    """Positions of the query cells that both sides learn from."""
    held_out: npt.NDArray[np.int64]
    """Positions of those that the ELBO is of."""


def simulated() -> QuerySet:
    return _split(simulate(5_000, ["a", "b"], seed=2), simulate(10_000, ["query"], seed=1))


def pbmc() -> QuerySet | None:
    """10x PBMCs, 10k v3 as the reference and 5k v3 as the query; None where the file is absent."""
    if not CITESEQ.exists():
        return None
    cells = anndata.read_h5ad(CITESEQ)
    plain = anndata.AnnData(cells.X, obs=cells.obs[["batch"]].astype(str), var=cells.var[[]])
    is_reference = (plain.obs["batch"] == CITESEQ_REFERENCE).to_numpy()
    return _split(plain[is_reference].copy(), plain[~is_reference].copy())


SETS: dict[str, Callable[[], QuerySet | None]] = {"simulated": simulated, "pbmc": pbmc}


def _split(reference: anndata.AnnData, query: anndata.AnnData) -> QuerySet:
    order = np.random.default_rng(0).permutation(query.n_obs)
    n_held_out = int(HELD_OUT * query.n_obs)
    return QuerySet(reference, query, np.sort(order[n_held_out:]), np.sort(order[:n_held_out]))
