"""Dense matrices read in bands of rows."""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np

from worker.intake.findings import reading
from worker.intake.matrices import Matrix
from worker.intake.rows import ENTRIES, RowBlock
from worker.intake.source import Source, blocks
from worker.intake.values import Array, Survey, check_number_type


def dense_blocks(source: Source, matrix: Matrix, survey: Survey) -> Iterator[RowBlock]:
    """The rows of a dense matrix, its zeros left out."""
    dataset = source.dataset(matrix.path)
    check_number_type(dataset.dtype, matrix.path)
    for first, last in blocks(matrix.shape[0], _band(dataset)):
        with reading(matrix.path):
            band: Array = dataset[first:last]
        yield _block(band, first, survey)


def first_band(source: Source, matrix: Matrix, number: int) -> Array:
    """The values of the first rows, about so many, zeros included."""
    dataset = source.dataset(matrix.path)
    check_number_type(dataset.dtype, matrix.path)
    with reading(matrix.path):
        band: Array = dataset[: max(1, number // max(1, matrix.shape[1]))]
    return (band.view(np.uint8) if band.dtype.kind == "b" else band).ravel()


def _block(band: Array, first: int, survey: Survey) -> RowBlock:
    rows, columns = np.nonzero(band)
    values = band[rows, columns]
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    survey.look(values, lambda at: (first + int(rows[at]), int(columns[at])))
    indptr = np.searchsorted(rows, np.arange(len(band) + 1))
    return RowBlock(first, indptr, columns.astype(np.int32), values)


def _band(dataset: h5py.Dataset) -> int:
    """Rows read at once: a few million values, in whole chunks."""
    wanted = max(1, 4 * ENTRIES // max(1, int(dataset.shape[1])))
    if not dataset.chunks:
        return wanted
    tall = int(dataset.chunks[0])
    return max(1, wanted // tall) * tall if tall <= 2 * wanted else wanted
