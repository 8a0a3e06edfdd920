"""Counts of many cells as they are kept: a CSR tensor, of which a minibatch is made dense.

Of 50,000 regions 98 in 100 are closed in a cell, so these are a fortieth of the dense counts.
"""

import functools
import warnings

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

_MOST_INT32 = 2**31 - 1


def sparse_counts(rows: sp.csr_matrix) -> Float[Tensor, "c g"]:
    """These rows as a CSR tensor in float32, without a zero that is written out."""
    if not np.all(rows.data):
        rows = rows.copy()
        rows.eliminate_zeros()
    kind = np.int32 if rows.nnz <= _MOST_INT32 else np.int64
    starts, where = (
        torch.from_numpy(each.astype(kind, copy=False)) for each in (rows.indptr, rows.indices)
    )
    values = torch.from_numpy(rows.data.astype(np.float32, copy=False))
    return _csr(starts, where, values, rows.shape)


def scipy_counts(x: Float[Tensor, "c g"]) -> sp.csr_matrix:
    """The same rows for scipy; of a CSR tensor on the CPU nothing is copied."""
    if not is_sparse(x):
        return sp.csr_matrix(x.cpu().numpy())
    parts = (x.values(), x.col_indices(), x.crow_indices())
    return sp.csr_matrix(tuple(each.cpu().numpy() for each in parts), tuple(x.shape), copy=False)


def is_sparse(x: Tensor) -> bool:
    """Whether these are kept without their zeros."""
    return x.layout is torch.sparse_csr


def dense(x: Float[Tensor, "c g"]) -> Float[Tensor, "c g"]:
    """The same with every zero; dense counts are themselves."""
    return x.to_dense() if is_sparse(x) else x


def take_rows(x: Float[Tensor, "c g"], rows: Int[Tensor, " n"] | slice) -> Float[Tensor, "n g"]:
    """Some cells of a CSR tensor, in that order, on its device; their counts are copied."""
    starts = x.crow_indices()
    if isinstance(rows, slice):
        rows = torch.arange(len(x), device=x.device)[rows]
    first, lengths = starts[rows], (starts[1:] - starts[:-1])[rows]
    ends = starts.new_zeros(len(rows) + 1)
    ends[1:] = lengths.cumsum(0)
    shift = torch.repeat_interleave(first - ends[:-1], lengths)
    at = torch.arange(len(shift), dtype=shift.dtype, device=x.device).add_(shift)
    return _csr(ends, x.col_indices()[at], x.values()[at], (len(rows), x.shape[1]))


def columns(x: Float[Tensor, "c g"], start: int, stop: int) -> Float[Tensor, "c n"]:
    """Columns `start` to `stop`, kept as they were."""
    if not is_sparse(x):
        return x[:, start:stop]
    where, starts = x.col_indices(), x.crow_indices()
    chosen = (where >= start) & (where < stop)
    before = starts.new_zeros(len(where) + 1)
    before[1:] = chosen.cumsum(0)
    shape = (len(x), stop - start)
    return _csr(before[starts], where[chosen] - start, x.values()[chosen], shape)


def row_sums(x: Float[Tensor, "c g"]) -> Float[Tensor, " c"]:
    """The counts of each cell."""
    if not is_sparse(x):
        return x.sum(-1)
    starts = x.crow_indices()
    owner = torch.repeat_interleave(starts[1:] - starts[:-1])
    return x.values().new_zeros(len(x)).index_add_(0, owner, x.values())


def product(x: Float[Tensor, "c g"], weight: Float[Tensor, "g h"]) -> Float[Tensor, "c h"]:
    """x W of a CSR tensor, a weighted sum of the rows of W; its gradient is that by W alone."""
    return embedding_bag(
        x.col_indices(), weight, x.crow_indices()[:-1], mode="sum", per_sample_weights=x.values()
    )


def occupied(x: Float[Tensor, "c g"]) -> Int[Tensor, " n"]:
    """Cells with a count."""
    has = x.crow_indices().diff() > 0 if is_sparse(x) else (x != 0).any(-1)
    return torch.nonzero(has).squeeze(1)


def _csr(starts: Tensor, where: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    _accept_csr()
    return torch.sparse_csr_tensor(starts, where, values, size=shape)


@functools.cache
def _accept_csr() -> None:
    """torch says once in each process that CSR tensors are new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], [], size=(1, 1))
