"""Dense matrices read in bands of rows."""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np

from worker.intake.findings import reading
from worker.intake.matrices import Matrix
from worker.intake.rows import ENTRIES, RowBlock
from worker.intake.source import Source, blocks
from worker.intake.values import Array, BadValue, check_number_type, first_fault


def dense_blocks(source: Source, matrix: Matrix, *, whole: bool) -> Iterator[RowBlock]:
    """The rows of a dense matrix, its zeros left out."""
    dataset = source.dataset(matrix.path)
    check_number_type(dataset.dtype, matrix.path)
    for first, last in blocks(matrix.shape[0], _band(dataset)):
        with reading(matrix.path):
            band: Array = dataset[first:last]
        rows, columns = np.nonzero(band)
        values = band[rows, columns]
        if values.dtype.kind == "b":
            values = values.view(np.uint8)
        if fault := first_fault(values, whole=whole):
            at = fault[0]
            raise BadValue(first + int(rows[at]), int(columns[at]), float(values[at]), fault[1])
        indptr = np.searchsorted(rows, np.arange(last - first + 1))
        yield RowBlock(first, indptr, columns.astype(np.int32), values)


def _band(dataset: h5py.Dataset) -> int:
    """Rows read at once: a few million values, in whole chunks."""
    wanted = max(1, 4 * ENTRIES // max(1, int(dataset.shape[1])))
    if not dataset.chunks:
        return wanted
    tall = int(dataset.chunks[0])
    return max(1, wanted // tall) * tall if tall <= 2 * wanted else wanted
