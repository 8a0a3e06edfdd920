"""Cells of any depth at one library size, by their content alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from worker.alignment import Index, UInt64, row_hashes

Floats = npt.NDArray[np.float64]

MOST_DRAWN_FROM = 2.0**53
"""Of a count: larger ones, which only values taken as they are can be, are scaled down first. So
few of them are kept that it makes no difference."""


def first_by_content(hashes: UInt64, cells: Index, most: int) -> Index:
    """So many of these cells, ascending: those whose hashes, one a cell, come first."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    return np.sort(cells[order[:most]])


def in_order_of_content(rows: sp.csr_matrix) -> sp.csr_matrix:
    """The same cells in an order that only their counts decide, so that sums come out alike."""
    hashes = row_hashes(rows)
    return rows[np.lexsort((hashes[:, 1], hashes[:, 0]))]


def thinned(rows: sp.csr_matrix, library_size: int) -> sp.csr_matrix:
    """Each count kept with the chance that leaves `library_size` of a cell's counts, in float64.

    Binomial, drawn from a seed that is the cell's own content. A fraction of a count is one count
    with that chance. Cells below the library size are not for this; nor do they get any deeper.
    """
    kept_of_all = np.zeros(rows.nnz)
    seeds = row_hashes(rows)
    for cell, seed in enumerate(seeds):
        here = slice(rows.indptr[cell], rows.indptr[cell + 1])
        rng = np.random.default_rng([library_size, *seed])
        values = rows.data[here].astype(np.float64)
        values *= min(1.0, MOST_DRAWN_FROM / values.max(initial=1.0))
        kept = min(1.0, library_size / values.sum()) if len(values) else 1.0
        whole = np.floor(values + rng.random(len(values))).astype(np.int64)
        kept_of_all[here] = rng.binomial(whole, kept)
    found = sp.csr_matrix((kept_of_all, rows.indices, rows.indptr), rows.shape, copy=True)
    found.eliminate_zeros()
    return found
