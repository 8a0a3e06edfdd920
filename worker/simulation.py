"""The demo's simulated cells: two files of raw counts whose true types and batches are known.

Every gene, cell and donor here is made up. What is realistic is what makes mapping hard: counts
are over-dispersed gene by gene, libraries differ in size, and each batch multiplies every gene by
its own factor, soaks every cell in its own ambient RNA and is sequenced to its own depth. In the
query's batches a few transcripts take most of the counts, as haemoglobin does in blood; so
counts that are scaled to a common total mean something else there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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

SHARED_PROGRAMME = 0.08
OWN_PROGRAMME = 0.05
"""Share of the genes that a branch of the tree changes, and that a type changes by itself."""
FOLD_CHANGES = (0.36, 1.8)
"""Smallest and largest natural logarithm of a programme's effect on a gene."""
MEDIAN_DEPTH = 3000.0
"""Counts of a middling cell, abundant transcripts apart."""


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
    batch_spread: float = 1.0
    """Standard deviation of a batch's log factor on a gene."""
    type_spread: float = 0.05
    """The same for the part of a batch's effect that differs from type to type."""
    ambient: float = 0.2
    """Largest share of a cell's other counts that is the batch's background, not its own."""
    abundant_genes: int = 8
    reference_abundance: float = 0.2
    query_abundance: float = 0.92
    """Largest share of all counts that the abundant transcripts take."""


@dataclass(frozen=True)
class _Biology:
    """What is true of the genes in every batch."""

    expression: Floats
    """Log expression: types x genes."""
    dispersion: Floats
    abundant: Integers
    """Genes that may swell; no programme touches them."""


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
    truth, laboratory, draws, order = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)
    )
    biology = _biology(truth, sizes)
    reference_batches = [
        _batch(laboratory, name, biology, sizes=sizes, abundance=sizes.reference_abundance)
        for name in REFERENCE_BATCHES
    ]
    query_batches = [
        _batch(laboratory, name, biology, sizes=sizes, abundance=sizes.query_abundance)
        for name in QUERY_BATCHES
    ]
    known = [_without(batch, MISSING_TYPE) for batch in reference_batches]
    reference = _sample(draws, known, sizes.reference_cells, biology.dispersion)
    query = _sample(draws, query_batches, sizes.query_cells, biology.dispersion)

    folder.mkdir(parents=True, exist_ok=True)
    files = DemoFiles(folder / "reference.h5ad", folder / "query.h5ad")
    _write(reference, np.arange(sizes.shared_genes), files.reference)
    _write(query, _query_genes(order, sizes), files.query)
    return files


def _biology(rng: np.random.Generator, sizes: DemoSizes) -> _Biology:
    n_genes = sizes.shared_genes + sizes.surplus_genes
    common = rng.normal(0.0, 1.2, size=n_genes).clip(-2.4, 2.4)
    branches = sorted({branch for path in LINEAGES.values() for branch in path})
    programmes = {name: _programme(rng, n_genes, SHARED_PROGRAMME) for name in branches}
    effects = np.stack(
        [
            sum((programmes[branch] for branch in path), start=np.zeros(n_genes))
            + _programme(rng, n_genes, OWN_PROGRAMME)
            for path in LINEAGES.values()
        ]
    )  # (types, genes)
    untouched = np.flatnonzero((effects[:, : sizes.shared_genes] == 0).all(axis=0))
    return _Biology(
        expression=common + effects,
        dispersion=rng.gamma(shape=2.0, scale=1.0, size=n_genes) + 0.3,
        abundant=rng.choice(untouched, size=sizes.abundant_genes, replace=False),
    )


def _programme(rng: np.random.Generator, n_genes: int, share: float) -> Floats:
    """A set of genes that go up together, and a smaller one that goes down."""
    active = rng.random(n_genes) < share
    sign = np.where(rng.random(n_genes) < 0.8, 1.0, -1.0)
    return np.where(active, sign * rng.uniform(*FOLD_CHANGES, size=n_genes), 0.0)


def _batch(
    rng: np.random.Generator, name: str, biology: _Biology, *, sizes: DemoSizes, abundance: float
) -> _Batch:
    n_types, n_genes = biology.expression.shape
    factor = rng.normal(0.0, sizes.batch_spread, size=n_genes)
    by_type = rng.normal(0.0, sizes.type_spread, size=(n_types, n_genes))
    own = np.exp(biology.expression + factor + by_type)
    own /= own.sum(axis=1, keepdims=True)
    soup = rng.dirichlet(np.full(n_types, 0.5)) @ own  # few types lyse, and dominate it
    ambient = rng.uniform(0.4, 1.0) * sizes.ambient
    swollen = np.zeros(n_genes)
    swollen[biology.abundant] = rng.dirichlet(np.full(len(biology.abundant), 3.0))
    abundant = rng.uniform(0.85, 1.0) * abundance
    return _Batch(
        name=name,
        rates=(1 - abundant) * ((1 - ambient) * own + ambient * soup) + abundant * swollen,
        composition=rng.dirichlet(np.full(n_types, 12.0)),
        # Sequenced deeper by as much as is lost to the abundant transcripts.
        depth=MEDIAN_DEPTH * float(np.exp(rng.uniform(-0.4, 0.4))) / (1 - abundant),
    )


def _without(batch: _Batch, cell_type: str) -> _Batch:
    composition = batch.composition.copy()
    composition[CELL_TYPES.index(cell_type)] = 0.0
    return _Batch(batch.name, batch.rates, composition / composition.sum(), batch.depth)


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
) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Counts of one batch, negative-binomial: a Poisson draw around a gamma-spread rate."""
    types = rng.choice(len(CELL_TYPES), size=n_cells, p=batch.composition)
    library = batch.depth * rng.lognormal(mean=0.0, sigma=0.5, size=(n_cells, 1))
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


def _write(cells: anndata.AnnData, genes: Integers, path: Path) -> None:
    chosen = cells[:, genes].copy()
    chosen.X.sort_indices()  # choosing columns leaves each row in their new order, unsorted
    chosen.write_h5ad(path, compression="gzip")
