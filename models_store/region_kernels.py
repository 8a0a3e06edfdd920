"""The elementwise part of the gradient over regions, fused: one visit to each cell.

What these compute is written out in `regions.by_definition`. With e = exp(-a) for a logit a, and
k = d f the share of a region's openness that a cell's depth and the region's own factor leave:

    y = k / (1 + e)       y / (1 - y) = k / (1 + e - k)       1 - p = e / (1 + e)
"""

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models_store.count_rows import CountRows
from models_store.elementary import LOG2_E, exp2, log1p, part_of_kernel, scratch
from models_store.kernels import Logits

_ONE = np.float32(1)
_ZERO = np.float32(0)
_FLOOR = np.float32(1e-12)
_FURTHEST = np.float32(60)
_MOST = np.float32(100)
_SMALLEST = np.float32(1e-37)
_RUN = 1024


def fused_region_gradient(
    x: CountRows,
    logits: Logits,
    depth: Float[Tensor, "c 1"],
    factors: Float[Tensor, " r"],
    columns: Float[Tensor, " r"] | None = None,
) -> Float[Tensor, "c 1"]:
    """Gradients of Σ BCE(p d f, x > 0), on the CPU in float32.

    Args:
        x: counts.
        logits: of p; the product is overwritten by the gradient.
        depth: d of each cell.
        factors: f of each region.
        columns: is overwritten by Σ_cells (∂ BCE / ∂ y) y, where it is wanted.

    Returns:
        Σ_regions (∂ BCE / ∂ y) y of each cell.
    """
    total = torch.empty_like(depth)
    summed = np.zeros(0, np.float32) if columns is None else columns.zero_().numpy()
    product, bias = logits.product.numpy(), logits.bias.numpy()
    of_cells = depth.detach().numpy()[:, 0], total.numpy()[:, 0]
    _bernoulli(x.arrays, product, bias, of_cells, factors.detach().numpy(), summed)
    return total


def fused_region_surprise(
    x: CountRows, logits: Logits, depth: Float[Tensor, "c 1"], factors: Float[Tensor, " r"]
) -> Float[Tensor, " c"]:
    """Σ_regions BCE(p d f, x > 0) of each cell, in nats, on the CPU in float32; keeps no graph."""
    total = torch.empty(len(depth))
    product, bias = logits.product.detach().contiguous().numpy(), logits.bias.detach().numpy()
    of_cells = depth.detach().numpy()[:, 0], total.numpy()
    _surprise(x.arrays, product, bias, of_cells, factors.detach().numpy())
    return total


def can_fuse_regions(x: Tensor) -> bool:
    """Whether the kernel knows this case."""
    return x.device.type == "cpu" and x.dtype == torch.float32


def warm_up() -> None:
    """Compile (or load) the kernels before the first job waits for it."""
    logits = Logits(torch.zeros(2, 3), torch.zeros(3))
    one = torch.ones(2, 1)
    x = CountRows.of(torch.ones(2, 3))
    fused_region_surprise(x, logits, one, torch.ones(3))
    fused_region_gradient(x, logits, one, torch.ones(3))


_fast = numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)


# Nothing may be reordered here: 1 - k is 0 for a network without depths and factors.
@numba.njit(fastmath={"contract"}, error_model="numpy", forceinline=True)
def _rest(e, k):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """1 + e - k."""
    return max(e + (_ONE - k), _FLOOR)


@numba.njit(fastmath={"contract"}, error_model="numpy", forceinline=True)
def _against(e, k):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """1 + e - k, of which a logarithm is still a number."""
    return max(e + (_ONE - k), _SMALLEST)


@part_of_kernel
def _odds(logit, k):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """e, and one over (1 + e)(1 + e - k)."""
    e = exp2(min(-logit * LOG2_E, _FURTHEST))
    return e, _ONE / ((_ONE + e) * _rest(e, k))


@part_of_kernel
def _apart(values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """A copy that is far from every other array; see `scratch`."""
    copy = scratch(len(values))
    copy[:] = values
    return copy


@_fast
def _closed(logits, bias, factors, depth, columns):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The gradients of one cell as if none of its regions were open."""
    summed = _ZERO
    if len(columns) == 0:
        for g in range(len(logits)):
            k = depth * factors[g]
            e, inverse = _odds(logits[g] + bias[g], k)
            logits[g] = k * e * inverse
            summed += k * (_ONE + e) * inverse
        return summed
    for g in range(len(logits)):
        k = depth * factors[g]
        e, inverse = _odds(logits[g] + bias[g], k)
        logits[g] = k * e * inverse
        odds = k * (_ONE + e) * inverse
        columns[g] += odds
        summed += odds
    return summed


@_fast
def _bernoulli(counts, logits, bias, of_cells, factors, columns):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    starts, regions, values, chosen = counts
    depths, total = of_cells
    bias, factors, summed = _apart(bias), _apart(factors), _apart(columns)
    for c in range(len(logits)):
        first, last = starts[chosen[c]], starts[chosen[c] + 1]
        found = np.empty(last - first, np.float32)
        more = _ZERO
        for at in range(first, last):
            if values[at] > _ZERO:
                g = regions[at]
                k = depths[c] * factors[g]
                e, inverse = _odds(logits[c, g] + bias[g], k)
                y, odds = k / (_ONE + e), k * (_ONE + e) * inverse
                faded = min(_ONE, y * (_ONE - y) / _FLOOR)
                found[at - first] = -faded * e / (_ONE + e)
                more -= faded + odds
                if len(summed):
                    summed[g] -= faded + odds
        total[c] = more + _closed(logits[c], bias, factors, depths[c], summed)
        for at in range(first, last):
            if values[at] > _ZERO:
                logits[c, regions[at]] = found[at - first]
    columns[:] = summed


@_fast
def _closed_run(logits, bias, factors, depth):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Σ -log(1 - y) of some regions of a cell."""
    summed = _ZERO
    for g in range(len(logits)):
        k = depth * factors[g]
        e = exp2(-(logits[g] + bias[g]) * LOG2_E)
        summed += min(_MOST, log1p(k / _against(e, k)))
    return summed


@_fast
def _surprise(counts, logits, bias, of_cells, factors):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    starts, regions, values, chosen = counts
    depths, total = of_cells
    for c in range(len(logits)):
        # In runs, as sums of tens of thousands of small numbers lose digits in float32.
        summed = np.float64(0)
        for at in range(0, logits.shape[1], _RUN):
            run = slice(at, at + _RUN)
            summed += _closed_run(logits[c, run], bias[run], factors[run], depths[c])
        for at in range(starts[chosen[c]], starts[chosen[c] + 1]):
            if values[at] > _ZERO:
                g = regions[at]
                k = depths[c] * factors[g]
                e = exp2(-(logits[c, g] + bias[g]) * LOG2_E)
                rest = _against(e, k)
                summed += log1p(rest / k) if k > _SMALLEST * rest else _MOST
                summed -= min(_MOST, log1p(k / rest))
        total[c] = summed
