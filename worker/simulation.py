"""The demo's simulated cells: two files of raw counts whose true types and batches are known.

Every gene, cell and donor here is made up. What is realistic is what makes mapping hard: counts
are over-dispersed gene by gene, libraries differ in size, and each batch multiplies every gene by
its own factor, soaks every cell in its own ambient RNA and is sequenced to its own depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LINEAGES = {
    "T helper": ("lymphoid", "T"),
    "T cytotoxic": ("lymphoid", "T"),
    "NK": ("lymphoid",),
    "B": ("B lineage",),
    "plasma": ("B lineage",),
    "monocyte classical": ("myeloid", "monocyte"),
    "monocyte non-classical": ("myeloid", "monocyte"),
    "dendritic": ("myeloid",),
}
"""Each cell type with the programmes it shares with its relatives, the widest first."""

CELL_TYPES = tuple(LINEAGES)
MISSING_TYPE = "plasma"
"""The query has it and the reference does not: what a mapping should be unsure about."""

REFERENCE_BATCHES = ("donor_A", "donor_B")
QUERY_BATCHES = ("donor_C", "donor_D")


@dataclass(frozen=True)
class DemoFiles:
    """Where the two simulated files are, and what the reference lacks."""

    reference: Path
    query: Path
    missing_type: str = MISSING_TYPE


@dataclass(frozen=True)
class DemoSizes:
    """How much to simulate, and how strongly the batches disturb it."""

    reference_cells: int = 4000
    query_cells: int = 3000
    shared_genes: int = 2000
    """Genes of the reference."""
    lost_genes: int = 40
    """Genes of the reference that the query lacks."""
    surplus_genes: int = 150
    """Genes of the query that the reference lacks."""
    batch_spread: float = 0.55
    """Standard deviation of a batch's log factor on a gene."""
    type_spread: float = 0.15
    """The same for the part of a batch's effect that differs from type to type."""
    programme: float = 0.25
    ambient: float = 0.25
    """Largest share of a cell's counts that is the batch's background, not its own."""


@dataclass(frozen=True)
class _Batch:
    """One donor: how its laboratory distorts expression, and which types it holds."""

    name: str
    rates: Floats
    """Each type's expected share of the counts by gene, distortion included; rows sum to 1."""
    composition: Floats
    depth: float


def write_demo(folder: Path, *, seed: int = 0, sizes: DemoSizes | None = None) -> DemoFiles:
    """Simulate the demo and write `reference.h5ad` and `query.h5ad` into the folder.

    The same seed and sizes give the same counts.
    """
    sizes = sizes or DemoSizes()
    biology, laboratory, cells, order = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)
    )
    n_genes = sizes.shared_genes + sizes.surplus_genes
    expression = _expression(biology, n_genes, sizes.programme)
    dispersion = biology.gamma(shape=2.0, scale=1.0, size=n_genes) + 0.3
    reference_batches = [
        _batch(laboratory, name, expression, sizes=sizes, lacks=MISSING_TYPE)
        for name in REFERENCE_BATCHES
    ]
    query_batches = [_batch(laboratory, name, expression, sizes=sizes) for name in QUERY_BATCHES]
    reference = _sample(cells, reference_batches, sizes.reference_cells, dispersion)
    query = _sample(cells, query_batches, sizes.query_cells, dispersion)

    folder.mkdir(parents=True, exist_ok=True)
    files = DemoFiles(folder / "reference.h5ad", folder / "query.h5ad")
    reference[:, : sizes.shared_genes].write_h5ad(files.reference, compression="gzip")
    query[:, _query_genes(order, sizes)].write_h5ad(files.query, compression="gzip")
    return files


def _expression(rng: np.random.Generator, n_genes: int, s: float) -> Floats:
    """Log expression of each type by gene: a common profile plus the programmes of its branch."""
    common = rng.normal(0.0, 1.3, size=n_genes)
    branches = sorted({branch for path in LINEAGES.values() for branch in path})
    programmes = {name: _programme(rng, n_genes, share=0.08, s=s) for name in branches}
    return np.stack(
        [
            common
            + sum((programmes[branch] for branch in path), start=np.zeros(n_genes))
            + _programme(rng, n_genes, share=0.05, s=s)
            for path in LINEAGES.values()
        ]
    )  # (types, genes)


def _programme(rng: np.random.Generator, n_genes: int, *, share: float, s: float) -> Floats:
    """A set of genes that go up together, and a smaller one that goes down."""
    active = rng.random(n_genes) < share
    up = np.where(rng.random(n_genes) < 0.8, 1.0, -1.0)
    return np.where(active, up * rng.gamma(shape=4.0, scale=s, size=n_genes), 0.0)


def _batch(
    rng: np.random.Generator,
    name: str,
    expression: Floats,
    *,
    sizes: DemoSizes,
    lacks: str | None = None,
) -> _Batch:
    factor = rng.normal(0.0, sizes.batch_spread, size=expression.shape[1])
    by_type = rng.normal(0.0, sizes.type_spread, size=expression.shape)
    composition = rng.dirichlet(np.full(len(CELL_TYPES), 12.0))
    if lacks is not None:
        composition[CELL_TYPES.index(lacks)] = 0.0
    own = _shares(np.exp(expression + factor + by_type))
    soup = rng.dirichlet(np.full(len(CELL_TYPES), 0.5)) @ own  # few types lyse, and dominate it
    ambient = rng.uniform(0.4, 1.0) * sizes.ambient
    return _Batch(
        name=name,
        rates=(1 - ambient) * own + ambient * soup,
        composition=composition / composition.sum(),
        depth=float(rng.uniform(1500, 4500)),
    )


def _shares(values: Floats) -> Floats:
    """Each row scaled to sum to 1."""
    return values / values.sum(axis=1, keepdims=True)


def _sample(
    rng: np.random.Generator, batches: Sequence[_Batch], n_cells: int, dispersion: Floats
) -> anndata.AnnData:
    """The cells of some batches, dealt out evenly."""
    shares = np.array_split(np.arange(n_cells), len(batches))
    parts = [
        _cells(rng, batch, len(share), dispersion)
        for batch, share in zip(batches, shares, strict=True)
    ]
    return anndata.AnnData(
        X=sparse.vstack([counts for counts, _ in parts], format="csr"),
        obs=pd.concat([obs for _, obs in parts]).astype("category"),
        var=_genes(len(dispersion)),
    )


def _cells(
    rng: np.random.Generator, batch: _Batch, n_cells: int, dispersion: Floats
) -> tuple[Any, pd.DataFrame]:
    """Counts of one batch, negative-binomial: a Poisson draw around a gamma-spread rate."""
    types = rng.choice(len(CELL_TYPES), size=n_cells, p=batch.composition)
    library = batch.depth * rng.lognormal(mean=0.0, sigma=0.4, size=(n_cells, 1))
    rate = rng.standard_gamma(dispersion, size=(n_cells, len(dispersion))) / dispersion
    counts = rng.poisson(rate * batch.rates[types] * library)  # (cells, genes)
    obs = pd.DataFrame(
        {"batch": batch.name, "cell_type": np.array(CELL_TYPES)[types]},
        index=[f"{batch.name}_{number:05d}" for number in range(n_cells)],
    )
    return sparse.csr_matrix(counts.astype(np.float32)), obs


def _genes(n_genes: int) -> pd.DataFrame:
    """Names in the shape of symbols and of Ensembl's, in ranges that no real gene has."""
    numbers = range(1, n_genes + 1)
    return pd.DataFrame(
        {"gene_ids": [f"ENSG999{number:08d}" for number in numbers]},
        index=[f"DEMO{number:04d}" for number in numbers],
    )


def _query_genes(rng: np.random.Generator, sizes: DemoSizes) -> Integers:
    """The query's gene order: shuffled, some of the reference's lost, some of its own besides."""
    kept = rng.permutation(sizes.shared_genes)[sizes.lost_genes :]
    surplus = np.arange(sizes.shared_genes, sizes.shared_genes + sizes.surplus_genes)
    return rng.permutation(np.concatenate([kept, surplus]))
