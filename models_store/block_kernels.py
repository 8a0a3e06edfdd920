"""What follows a linear layer, and its way back, in one pass each: on the CPU in float32.

The definition is `layers.Block` in eval mode. Between the two products of a step's hidden layers
stand half a dozen operations on a matrix that fits the cache: each by itself takes as long to call
as to compute.
"""

from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models_store.elementary import scratch
from models_store.layers import LAYER_NORM_EPS

_ZERO = np.float32(0)
_ONE = np.float32(1)
_EPS = np.float32(LAYER_NORM_EPS)


@dataclass(frozen=True)
class Affine:
    """Batch norm by running statistics: y · slope + offset."""

    slope: Float[Tensor, " h"]
    offset: Float[Tensor, " h"]


@dataclass(frozen=True)
class Passed:
    """A pass of cells through a block, as the way back needs it."""

    h: Float[Tensor, "c h"]
    normed: Float[Tensor, "c h"]
    """Before the ReLU."""
    rstd: Float[Tensor, " c"]
    """One over the standard deviation of each cell's units; 1 without layer norm."""


def has_kernels(like: Tensor) -> bool:
    """Whether the kernels of the CPU serve tensors like this one."""
    return like.device.type == "cpu" and like.dtype == torch.float32


def block_forward(
    y: Float[Tensor, "c h"],
    shift: Float[Tensor, "*#c h"],
    affine: Affine,
    *,
    layer_norm: bool,
    leak: float = 0.0,
) -> Passed:
    """ReLU(layer norm((y + shift) · slope + offset)).

    leak: what the ReLU multiplies a negative number by.
    """
    h, normed, rstd = torch.empty_like(y), torch.empty_like(y), torch.empty(len(y))
    rows = shift.view(-1, y.shape[1]).numpy()
    slope, offset = affine.slope.numpy(), affine.offset.numpy()
    out = (h.numpy(), normed.numpy(), rstd.numpy())
    _forward(y.numpy(), rows, slope, offset, (layer_norm, np.float32(leak)), out)
    return Passed(h, normed, rstd)


def block_backward(
    g: Float[Tensor, "c h"],
    passed: Passed,
    affine: Affine,
    *,
    layer_norm: bool,
    leak: float = 0.0,
) -> tuple[Float[Tensor, "c h"], Float[Tensor, " h"]]:
    """The gradient by y from that of the block's output, and its sum over the cells."""
    found, total = torch.empty_like(g), torch.zeros(g.shape[1])
    normed, rstd, slope = passed.normed.numpy(), passed.rstd.numpy(), affine.slope.numpy()
    block = layer_norm, np.float32(leak)
    _backward(g.numpy(), normed, rstd, slope, block, (found.numpy(), total.numpy()))
    return found, total


_fast = numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)


@_fast
def _forward(y, shift, slope, offset, block, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    h, normed, rstd = out
    layer_norm, leak = block
    cells, n = y.shape
    many = np.int64(shift.shape[0] > 1)
    v = scratch(n)
    for c in range(cells):
        row, source = shift[c * many], y[c]
        whole = _ZERO
        for j in range(n):
            v[j] = (source[j] + row[j]) * slope[j] + offset[j]
            whole += v[j]
        mean, r = _ZERO, _ONE
        if layer_norm:
            mean = np.float32(whole / np.float32(n))
            squares = _ZERO
            for j in range(n):
                squares += (v[j] - mean) * (v[j] - mean)
            r = np.float32(_ONE / np.sqrt(squares / np.float32(n) + _EPS))
        rstd[c] = r
        before, after = normed[c], h[c]
        for j in range(n):
            before[j] = (v[j] - mean) * r
            after[j] = before[j] if before[j] > _ZERO else leak * before[j]


@_fast
def _backward(g, normed, rstd, slope, block, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    found, total = out
    layer_norm, leak = block
    cells, n = g.shape
    v, summed = scratch(n), scratch(n)
    summed[:] = _ZERO
    for c in range(cells):
        given, before, to = g[c], normed[c], found[c]
        whole, along = _ZERO, _ZERO
        for j in range(n):
            v[j] = given[j] if before[j] > _ZERO else leak * given[j]
            whole += v[j]
            along += v[j] * before[j]
        if layer_norm:
            whole /= np.float32(n)
            along /= np.float32(n)
        else:
            whole, along = _ZERO, _ZERO
        for j in range(n):
            d = (v[j] - whole - before[j] * along) * (rstd[c] * slope[j])
            summed[j] += d
            to[j] = d
    total[:] = summed
