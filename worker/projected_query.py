"""What one pass over a query's counts leaves behind of every cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from models_store.cells import Projection
from models_store.encoding import join_projections
from worker.alignment import Index, UInt64
from worker.projections import Projections


class SampleCounts(Protocol):
    """Where a fit finds the counts of the cells that it learns from."""

    def in_order(self, cells: Index) -> sp.csr_matrix:
        """Chosen cells in the given order, (cells, genes of the panel)."""


@dataclass(frozen=True)
class ProjectedCells:
    """What one pass over the counts of cells `start` to `stop` leaves behind of each: nothing as
    wide as the gene panel."""

    start: int
    stop: int
    projections: Projections
    totals: Tensor
    """Counts of each cell in the reference's genes, float64, (c,)."""
    occupied: npt.NDArray[np.bool_]
    """Cells with any value other than zero in the reference's genes, (c,)."""
    hashes: UInt64
    """Each cell by its content: counts and covariates, never its position, (c, 2)."""


class ProjectedQuery:
    """All cells of a query, in one part or in several that follow each other."""

    start = 0

    def __init__(self, parts: Sequence[ProjectedCells], counts: SampleCounts) -> None:
        self.parts, self.counts = parts, counts
        self.totals = torch.cat([part.totals for part in parts])
        self.occupied = np.concatenate([part.occupied for part in parts])
        self.hashes = np.concatenate([part.hashes for part in parts])

    def rows(self, cells: Index) -> Projection:
        """The projections of chosen cells, in the given order."""
        order = np.argsort(cells, kind="stable")
        ascending = cells[order]
        bounds = np.searchsorted(
            ascending, [part.start for part in self.parts] + [len(self.totals)]
        )
        found = join_projections(
            [
                part.projections.rows(ascending[first:last] - part.start)
                for part, (first, last) in zip(self.parts, pairwise(bounds), strict=True)
            ]
        )
        return found.rows(torch.from_numpy(np.argsort(order)).to(found.z.device))


def by_content(projected: ProjectedCells | ProjectedQuery, cells: Index) -> Index:
    """Those of these cells that have counts, in an order that only their content decides."""
    cells = cells[projected.occupied[cells - projected.start]]
    hashes = projected.hashes[cells - projected.start]
    return np.asarray(cells[np.lexsort((hashes[:, 1], hashes[:, 0]))], dtype=np.int64)
