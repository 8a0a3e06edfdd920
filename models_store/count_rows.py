"""Counts of cells without their zeros, which nine in ten of them are."""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from models_store.sparse_counts import is_sparse

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CountRows:
    """The counts above zero of some cells, cell after cell (CSR), and which of the cells are meant.

    Choosing cells copies none of their counts.
    """

    starts: Int64
    """Where each cell's counts begin, and where the last one's end, (all cells + 1,)."""
    genes: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    cells: Int64
    """Positions of the chosen cells among all of them."""

    @classmethod
    def of(cls, x: Float[Tensor, "c g"]) -> "CountRows":
        """All cells of a float32 matrix on the CPU; a CSR tensor's counts are not copied."""
        if is_sparse(x):
            starts = x.crow_indices().numpy().astype(np.int64)
            genes, values = x.col_indices().numpy(), x.values().numpy()
            return cls(starts, genes.astype(np.int32, copy=False), values, np.arange(len(x)))
        dense = x.detach().numpy()
        starts = np.zeros(len(dense) + 1, np.int64)
        _count(dense, starts)
        genes, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
        _pack(dense, starts, genes, values)
        return cls(starts, genes, values, np.arange(len(dense)))

    def rows(self, index: Tensor | slice) -> "CountRows":
        """Some of these cells, in that order."""
        chosen = self.cells[index if isinstance(index, slice) else index.numpy()]
        return CountRows(self.starts, self.genes, self.values, chosen)

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def arrays(self) -> tuple[Int64, npt.NDArray[np.int32], npt.NDArray[np.float32], Int64]:
        """What a kernel takes."""
        return self.starts, self.genes, self.values, self.cells

    def dense(self, n_genes: int) -> Float[Tensor, "c g"]:
        """The chosen cells with their zeros."""
        x = torch.zeros(len(self), n_genes)
        _unpack(self.arrays, x.numpy())
        return x


@numba.njit(nogil=True, cache=True)
def _count(dense, starts):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for c in range(dense.shape[0]):
        found = np.int32(0)
        for g in range(dense.shape[1]):
            found += np.int32(dense[c, g] != 0)
        starts[c + 1] = starts[c] + found


@numba.njit(nogil=True, cache=True)
def _pack(dense, starts, genes, values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for c in range(dense.shape[0]):
        k = starts[c]
        for g in range(dense.shape[1]):
            if dense[c, g] != 0:
                genes[k] = g
                values[k] = dense[c, g]
                k += 1


@numba.njit(nogil=True, cache=True)
def _unpack(counts, dense):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    starts, genes, values, cells = counts
    for c in range(len(cells)):
        for k in range(starts[cells[c]], starts[cells[c] + 1]):
            dense[c, genes[k]] = values[k]
