"""What becomes of a file without a proof: `anndata.read_h5ad` and ordinary work on the matrix."""

from __future__ import annotations

import warnings
from typing import Any

import anndata
import numpy as np
import scipy.sparse as sp


def treat(path: str, _: str) -> dict[str, Any]:
    """Read and compute; what Python can say about it is no crash."""
    warnings.simplefilter("ignore")
    try:
        read = anndata.read_h5ad(path)
        for matrix in (read.X, read.raw.X if read.raw is not None else None):
            if matrix is not None:
                _work_on(matrix)
        read.obs.head()
    except Exception as error:  # noqa: BLE001 - any class: that is what a control sees
        return {"raised": type(error).__name__}
    return {"read": True}


def _work_on(matrix: Any) -> None:
    if sp.issparse(matrix):
        matrix.tocsc().tocsr()
        matrix[: matrix.shape[0] // 2].toarray()
    matrix.sum(axis=0)
    matrix.sum(axis=1)
    matrix @ np.ones((matrix.shape[1], 3), dtype=np.float32)
