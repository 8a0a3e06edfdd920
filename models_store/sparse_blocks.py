"""Projecting sparse counts: every block passes through the same dense rows, one after the other.

Rows that are made anew for each block cost more than the product: the kernel fills their pages with
zeros first, and between projections that stay they leave gaps of many megabytes behind.
"""

import numba
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from models_store.blocks import BLOCK
from models_store.cells import Cells, Projection
from models_store.cvae import CVAE
from models_store.encoding import first_rows, padded

Index = npt.NDArray[np.int64]


class BlockProjector:
    """The encoders' constant inputs of sparse rows: bytes are those of `project_block`."""

    def __init__(self, cvae: CVAE) -> None:
        self._cvae, self._device = cvae, cvae.device
        shape = (BLOCK, cvae.architecture.n_features)
        self._x = torch.zeros(shape)
        self._log_x = torch.zeros(shape) if cvae.architecture.log_variational else None

    @torch.no_grad()
    def __call__(
        self,
        rows: sp.csr_matrix,
        continuous: Float[Tensor, "c n"] | None = None,
        size_factor: Float[Tensor, "c ..."] | None = None,
    ) -> Projection:
        """Project at most `BLOCK` cells, (c, genes of the panel), each gene at most once a cell."""
        n, places = rows.shape[0], _places(rows)
        values = rows.data.astype(np.float32, copy=False)
        dense = [(self._x, values)]
        if self._log_x is not None:  # log 1 is 0, so only what is stored needs a logarithm
            dense.append((self._log_x, torch.log1p(torch.from_numpy(values)).numpy()))
        try:
            for whole, each in dense:
                _write(*places, each, whole.numpy())
            cells = Cells(
                self._x.to(self._device),
                (),  # projections do not look at codes
                None if continuous is None else padded(continuous),
                None,
                None if size_factor is None else padded(size_factor, value=1.0),
            )
            log_x = None if self._log_x is None else self._log_x.to(self._device)
            return first_rows(self._cvae.project(cells, log_x), n)
        finally:
            for whole, _ in dense:
                _clear(*places, whole.numpy())


def warm_up() -> None:
    """Compile (or load) the kernels before the first job waits for them."""
    one, places = torch.zeros(1, 1), _places(sp.csr_matrix(np.ones((1, 1), dtype=np.float32)))
    _write(*places, np.ones(1, dtype=np.float32), one.numpy())
    _clear(*places, one.numpy())


def _places(rows: sp.csr_matrix) -> tuple[Index, Index]:
    return rows.indptr.astype(np.int64, copy=False), rows.indices.astype(np.int64, copy=False)


@numba.njit(nogil=True, cache=True)
def _write(indptr, indices, values, dense):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for row in range(len(indptr) - 1):
        for at in range(indptr[row], indptr[row + 1]):
            dense[row, indices[at]] = values[at]


@numba.njit(nogil=True, cache=True)
def _clear(indptr, indices, dense):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for row in range(len(indptr) - 1):
        for at in range(indptr[row], indptr[row + 1]):
            dense[row, indices[at]] = np.float32(0)
