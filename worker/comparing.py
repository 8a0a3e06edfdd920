"""The compute side of a ranking: a sample of cells, and what one reference makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from models_store.blocks import block_ranges
from worker.alignment import AlignedCounts, row_hashes
from worker.canonical import CanonicalQuery
from worker.explained import Explained, explain
from worker.orders import ExplainOrder, Report, SampleOrder
from worker.own_fit import MOST_CELLS
from worker.reference_cache import ReferenceCache
from worker.thinning import first_by_content


def run_sample(order: SampleOrder, report: Report) -> dict[str, Any]:
    """Cells with counts, ascending: the same of the same query, however its rows are ordered."""
    query = CanonicalQuery.open(order.canonical)
    hashes, occupied = [np.zeros((0, 2), dtype=np.uint64)], [np.zeros(0, dtype=bool)]
    for start, stop in block_ranges(query.n_cells):
        report("sampling", start / query.n_cells)
        rows = query.rows(start, stop)
        hashes.append(row_hashes(rows))
        occupied.append(np.diff(rows.indptr) > 0)
    cells = np.flatnonzero(np.concatenate(occupied))
    chosen = first_by_content(np.concatenate(hashes)[cells], cells, MOST_CELLS)
    return {"cells": [int(cell) for cell in chosen]}


def run_explain(order: ExplainOrder, references: ReferenceCache, report: Report) -> dict[str, Any]:
    """The figures of `explain` for the order's cells.

    Raises:
        DamagedReference: the bundle is incomplete, has changed, or does not load.
    """
    report("comparing", 0.0)
    reference = references.get(order.bundle, order.manifest_sha256, order.device)
    query, manifest = CanonicalQuery.open(order.canonical), reference.manifest
    if query.input != manifest.input:
        kinds = f"the query's values are {query.input} and the reference's {manifest.input}"
        return Explained(None, kinds).facts()
    match = manifest.match_genes(query.genes())
    cells = np.asarray(order.cells, dtype=np.int64)
    rows = AlignedCounts(query, match).chosen(cells)
    return explain(reference, order.bundle, rows, match).facts()
