"""A matrix of all droplets, before cells were called: recognised by what most of them hold."""

from __future__ import annotations

import numpy as np

from worker.intake.counts import Totals
from worker.intake.findings import Findings
from worker.intake.matrices import Matrix

FEWEST_ROWS = 500
"""Below, what looks like empty droplets may be a few bad cells."""
EMPTY_MEDIAN = 20.0
"""More counts than this the median droplet of no raw matrix has, and fewer no set of cells."""
CONTRAST = 50.0
"""By how much the fullest droplets exceed the median one; among cells it is about ten."""
FULLEST = 10
KEEP = "keep"


def tell_unfiltered(matrix: Matrix, totals: Totals, asked: str | None, findings: Findings) -> None:
    """An error, or a warning where the caller wants the droplets kept."""
    if not is_unfiltered(totals.sums):
        return
    nearly_empty = int((totals.sums <= EMPTY_MEDIAN).sum())
    detail = (
        f"{nearly_empty:,} of the {len(totals.sums):,} rows hold {EMPTY_MEDIAN:.0f} counts or "
        "fewer: this is the matrix of all droplets, before cells were called."
    )
    if asked == KEEP:
        findings.tell(
            "unfiltered-kept",
            matrix.path,
            f"{detail} All are kept, as was asked for; the place of an empty one means nothing.",
            "Call cells, and upload those alone.",
        )
        return
    findings.tell(
        "unfiltered-barcodes",
        matrix.path,
        detail,
        "Upload filtered_feature_bc_matrix (.h5, or its folder), which Cell Ranger writes beside "
        "the raw one, or call cells (EmptyDrops, CellBender) first. To map every droplet all the "
        "same, send the file again with unfiltered=keep.",
    )


def is_unfiltered(sums: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
    """Most rows are nearly empty, while some hold far more."""
    if len(sums) < FEWEST_ROWS:
        return False
    median = float(np.median(sums))
    full = float(np.partition(sums, -FULLEST)[-FULLEST])
    return median <= EMPTY_MEDIAN and full >= CONTRAST * max(median, 1.0)
