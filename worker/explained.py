"""How well a reference's forward pass explains the cells of a query, held against its own cells.

    explained = exp(own misfit - misfit), at most 1

is the factor by which a count of the query is less likely, on geometric average, than if the
reference explained these cells as well as it does its own (`models_store.misfit`, decision 0054).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from models_store.gene_matching import GeneMatch
from models_store.manifest import Manifest
from models_store.misfit import SMALLEST_SHARE, Misfit
from worker.alignment import AlignedCounts, Index, UInt64
from worker.own_fit import (
    FEWEST_CELLS,
    LIBRARY_SIZES,
    MOST_CELLS,
    misfit_of,
    simulated_own_fit,
)
from worker.reference_cache import LoadedReference
from worker.thinning import (
    Floats,
    first_by_content,
    in_order_of_content,
    thinned,
)

ENOUGH_CELLS = 0.75
"""The library size is the largest that so many of the cells reach."""
NAMED_GENES = 5

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Explained:
    """The figures of a query on a reference, or why there are none."""

    explained: float | None
    why_not: str | None = None
    misfit: float | None = None
    """Nats a count, as the two that follow."""
    misfit_error: float | None = None
    own_misfit: float | None = None
    own_cells: str | None = None
    """What the reference's own misfit is of: `held-out` cells, `all` cells, `simulated` ones."""
    library_size: int | None = None
    n_cells: int = 0
    unexplained_genes: tuple[dict[str, Any], ...] = ()
    """Genes that speak most against the reference, with their share of the counts and what the
    forward pass expects it to be."""

    def facts(self) -> dict[str, Any]:
        """As JSON has them."""
        return {**asdict(self), "unexplained_genes": list(self.unexplained_genes)}


def explain(
    reference: LoadedReference, folder: Path, rows: sp.csr_matrix, match: GeneMatch
) -> Explained:
    """Compare cells of a query with what the reference makes of them.

    Args:
        reference: in memory.
        folder: its bundle's.
        rows: counts of a sample of cells, (c, genes of the panel), in any order.
        match: which genes of the panel the query has.
    """
    manifest = reference.manifest
    if manifest.input != "counts":
        return Explained(None, "the reference's values are continuous: they cannot be thinned")
    covered = covered_genes(match)
    rows = in_order_of_content(rows)
    totals = np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()
    size = _library_size(totals, _measured_sizes(manifest))
    deep = rows[totals >= size]
    if deep.shape[0] < FEWEST_CELLS:
        return Explained(
            None,
            f"{deep.shape[0]} of {rows.shape[0]} cells have {size} counts in the reference's "
            f"genes, and {FEWEST_CELLS} are needed",
        )
    found = misfit_of(reference.cvae, thinned(deep, size), covered)
    if not np.isfinite(found.nats):
        return Explained(None, "the forward pass gives numbers that are not finite")
    own, cells = _own_misfit(reference, folder, size, found.weights)
    return Explained(
        explained=round(float(np.exp(min(0.0, own - found.nats))), 4),
        misfit=round(found.nats, 4),
        misfit_error=round(found.error, 4),
        own_misfit=round(own, 4),
        own_cells=cells,
        library_size=size,
        n_cells=deep.shape[0],
        unexplained_genes=_unexplained(manifest, found, covered),
    )


def explain_sample(
    reference: LoadedReference,
    folder: Path,
    counts: AlignedCounts,
    match: GeneMatch,
    *,
    cells: Index,
    hashes: UInt64,
) -> Explained:
    """The same of a sample of these cells: those that their hashes, one a cell, put first."""
    chosen = first_by_content(hashes, cells, MOST_CELLS)
    return explain(reference, folder, counts.chosen(chosen), match)


def covered_genes(match: GeneMatch) -> Flags:
    """Genes of the panel that the query has, (g,)."""
    covered = np.zeros(match.width, dtype=bool)
    covered[[position for position in match.positions if position >= 0]] = True
    return covered


def _measured_sizes(manifest: Manifest) -> tuple[int, ...]:
    if manifest.own_fit is None:
        return LIBRARY_SIZES
    return tuple(own.library_size for own in manifest.own_fit)


def _library_size(totals: npt.NDArray[np.float64], sizes: tuple[int, ...]) -> int:
    enough = max(ENOUGH_CELLS * len(totals), FEWEST_CELLS)
    reached = [size for size in sizes if (totals >= size).sum() >= enough]
    return max(reached, default=min(sizes))


def _own_misfit(
    reference: LoadedReference, folder: Path, size: int, weights: Floats
) -> tuple[float, str]:
    """Of own cells with as large a share of counts in each kind of feature as the query has."""
    manifest = reference.manifest
    for own in manifest.own_fit or ():
        if own.library_size == size:
            return own.weighed(weights.tolist()), own.cells
    if size not in reference.simulated:
        simulated = simulated_own_fit(reference.cvae, folder, manifest, size)
        reference.simulated[size] = simulated
    return reference.simulated[size].weighed(weights), "simulated"


def _unexplained(manifest: Manifest, found: Misfit, covered: Flags) -> tuple[dict[str, Any], ...]:
    names = np.asarray(manifest.genes.symbols or manifest.genes.ids)[covered]
    worst = np.argsort(-found.by_gene, kind="stable")[:NAMED_GENES]
    return tuple(
        {
            "gene": str(names[at]) or str(np.asarray(manifest.genes.ids)[covered][at]),
            "share": _significant(found.q[at]),
            "expected": _significant(max(found.r[at], SMALLEST_SHARE)),
        }
        for at in worst
        if found.by_gene[at] > 0
    )


def _significant(share: float) -> float:
    return float(f"{share:.3g}")
