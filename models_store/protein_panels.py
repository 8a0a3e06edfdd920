"""Which proteins a batch was measured for: by scvi-tools' rule, those that any of its cells has."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models_store.cells import Cells
from models_store.layers import Code
from models_store.sparse_counts import columns, dense


def measured_proteins(y: Float[Tensor, "c p"], batch: Code) -> Bool[Tensor, "c p"] | None:
    """For each cell, whether its batch (or panel) has a count of a protein; None: all have all.

    Args:
        y: counts of the proteins of all cells at hand.
        batch: of each cell, or of all.
    """
    there = y > 0
    if isinstance(batch, int):
        any_of_batch = there.any(0)
        return None if bool(any_of_batch.all()) else any_of_batch.expand(len(y), -1)
    found = torch.zeros(int(batch.max()) + 1 if len(batch) else 0, y.shape[1], device=y.device)
    found = found.index_add(0, batch, there.to(found.dtype)) > 0
    measured = found[batch]
    return None if bool(measured.all()) else measured


def with_measured(cells: Cells, n_proteins: int) -> Cells:
    """The same cells with what their batches (or panels) were measured for.

    The proteins are the last columns of the counts. Which batch lacks one is told by all of its
    cells, so this comes before any of them are chosen.
    """
    if not n_proteins:
        return cells
    batch = cells.codes[0] if cells.panel is None else cells.panel
    n = cells.x.shape[1]
    return replace(
        cells, measured=measured_proteins(dense(columns(cells.x, n - n_proteins, n)), batch)
    )
