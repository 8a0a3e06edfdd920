"""The elementwise part of the closed-form gradients, fused: one visit to each cell, not ten passes.

What these compute is written out in `likelihoods.log_likelihood_gradient` and the chain rule of
`reconstruction`, which are the definition and serve every other case (other likelihoods and scales,
float64, GPUs). One thread each; whoever has more gives each some of the cells.

With a the logits, e = exp(a - max a), μ = e / q where q = Σe / library, so that nothing is divided
twice; a row of genes stays in the nearest cache from its logits to its gradient.
"""

from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models_store.count_rows import CountRows
from models_store.elementary import LOG2_E, exp2, log1p, part_of_kernel, rank, ranked, scratch
from models_store.likelihoods import EPS
from models_store.manifest import Likelihood

_EPS = np.float32(EPS)
_ONE = np.float32(1)
_ZERO = np.float32(0)


@dataclass(frozen=True)
class Logits:
    """What an output layer gives before its bias, and that bias."""

    product: Float[Tensor, "c g"]
    bias: Float[Tensor, " g"]


def fused_gradient(
    x: CountRows,
    scale: Logits,
    library: Float[Tensor, "c 1"],
    theta: Float[Tensor, "*#c g"],
    pi: Logits | None,
) -> Float[Tensor, "c 1"]:
    """Gradients of Σ -log p for nb (π None) or zinb under a softmax scale, on the CPU in float32.

    Args:
        x: counts.
        scale: logits of the scale; the product is overwritten by the gradient.
        library: counts that the scale shares out.
        theta: inverse dispersion by gene, or by cell and gene.
        pi: zero-inflation logits; overwritten likewise.

    Returns:
        The gradient by the log library.
    """
    rows = theta.detach().view(-1, theta.shape[-1]).numpy()
    total = torch.empty_like(library)
    logits, bias = scale.product.numpy(), scale.bias.numpy()
    depths, totals = library.detach().numpy()[:, 0], total.numpy()[:, 0]
    if pi is None:
        _nb(x.arrays, logits, bias, depths, rows, totals)
    else:
        extra = (pi.product.numpy(), pi.bias.numpy())
        _zinb(x.arrays, logits, bias, extra, depths, rows, totals)
    return total


def fused_theta_gradient(
    x: Float[Tensor, "c g"],
    scale: Float[Tensor, "c g"],
    library: Float[Tensor, "c 1"],
    theta: Float[Tensor, "*#c g"],
) -> Float[Tensor, "c g"]:
    """Gradient of -log p by log θ for nb."""
    rows = theta.detach().view(-1, theta.shape[-1])
    depth, share = library.detach().numpy()[:, 0], scale.detach().numpy()
    d_theta = torch.empty_like(scale)
    psi = torch.digamma(rows)
    _theta(x.numpy(), share, depth, rows.numpy(), psi.numpy(), d_theta.numpy())
    return d_theta


def can_fuse(x: Tensor, likelihood: Likelihood, *, wants_theta: bool) -> bool:
    """Whether the fused kernels know this case."""
    known = likelihood == "nb" or (likelihood == "zinb" and not wants_theta)
    return known and x.device.type == "cpu" and x.dtype == torch.float32


def warm_up() -> None:
    """Compile (or load) the kernels before the first job waits for them."""
    x, one = torch.ones(2, 3), torch.ones(2, 1)
    fused_theta_gradient(x, torch.full((2, 3), 1 / 3), one, torch.ones(3))
    for inflated in (False, True):
        scale, pi = (Logits(torch.zeros(2, 3), torch.zeros(3)) for _ in range(2))
        fused_gradient(CountRows.of(x), scale, one, torch.ones(3), pi if inflated else None)


_fast = numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)


@part_of_kernel
def _softmax(logits, bias, e):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """e = exp(a - max a) of one cell; gives its sum."""
    top = rank(logits[0] + bias[0])
    for g in range(len(e)):
        top = np.int32(max(top, rank(logits[g] + bias[g])))
    highest = ranked(top)
    whole = _ZERO
    for g in range(len(e)):
        e[g] = exp2((logits[g] + bias[g] - highest) * LOG2_E)
        whole += e[g]
    return whole


@_fast
def _nb(counts, logits, bias, depth, theta, total):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    starts, genes, values, chosen = counts
    cells, n = logits.shape
    many = np.int64(theta.shape[0] > 1)
    e, x, delta = scratch(n), scratch(n), scratch(n)
    x[:] = _ZERO
    for c in range(cells):
        whole = _softmax(logits[c], bias, e)
        first, last = starts[chosen[c]], starts[chosen[c] + 1]
        for k in range(first, last):
            x[genes[k]] = values[k]
        shape, q = theta[c * many], whole / depth[c]
        eps = _EPS * q
        summed = _ZERO
        for g in range(n):
            t = shape[g] * q
            over = (e[g] + eps) * (e[g] + (t + eps))
            d = e[g] * (x[g] * t - shape[g] * (e[g] + eps)) / over
            delta[g] = d
            summed += d
        for k in range(first, last):
            x[genes[k]] = _ZERO
        part, out = summed / whole, logits[c]
        for g in range(n):
            out[g] = e[g] * part - delta[g]
        total[c] = -summed


@_fast
def _zinb(counts, logits, bias, extra, depth, theta, total):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0917
    """As `_nb`; with s the probability that a zero is no extra one, 1 where x > 0."""
    starts, genes, values, chosen = counts
    pi, pi_bias = extra
    cells, n = logits.shape
    many = np.int64(theta.shape[0] > 1)
    e, x, delta, to_pi = scratch(n), scratch(n), scratch(n), scratch(n)
    x[:] = _ZERO
    for c in range(cells):
        whole = _softmax(logits[c], bias, e)
        first, last = starts[chosen[c]], starts[chosen[c] + 1]
        for k in range(first, last):
            x[genes[k]] = values[k]
        shape, q, d_pi = theta[c * many], whole / depth[c], pi[c]
        eps = _EPS * q
        summed = _ZERO
        for g in range(n):
            t = (shape[g] + _EPS) * q
            log_odds = (d_pi[g] + pi_bias[g]) * LOG2_E
            none = log1p(e[g] / t) * (shape[g] * LOG2_E)  # -log2 of the odds of a zero count
            odds = exp2(log_odds + none)
            s = _ONE / (_ONE + (_ZERO if x[g] > _EPS else odds))
            d = x[g] * (e[g] / (e[g] + eps)) - (x[g] + s * shape[g]) * (e[g] / (e[g] + t))
            to_pi[g] = s - _ONE / (_ONE + exp2(log_odds))
            delta[g] = d
            summed += d
        for k in range(first, last):
            x[genes[k]] = _ZERO
        part, out = summed / whole, logits[c]
        for g in range(n):
            out[g] = e[g] * part - delta[g]
            d_pi[g] = to_pi[g]
        total[c] = -summed


@_fast
def _theta(x, share, depth, theta, psi_theta, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Gradient of -log p by log θ."""
    cells, genes = share.shape
    many = np.int64(theta.shape[0] > 1)
    found = scratch(genes)
    for c in range(cells):
        row = c * many
        for g in range(genes):
            t, mu = theta[row, g], depth[c] * share[c, g]
            shape = t + _EPS
            over = shape + mu
            found[g] = t * (log1p(mu / shape) - t / shape + (t + x[c, g]) / over)
        out[c] = found
        for g in range(genes):  # most counts are zero, where the digammas cancel
            if x[c, g] > _EPS:
                t = theta[row, g]
                out[c, g] -= t * (_digamma(x[c, g] + t) - psi_theta[row, g])


@numba.njit(forceinline=True)
def _digamma(y):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """ψ(y) for y > 0: the recurrence up to 6, then its asymptotic series (DLMF 5.11.2)."""
    y = np.float64(y)
    below = 0.0
    while y < 6.0:
        below += 1.0 / y
        y += 1.0
    v = 1.0 / (y * y)
    series = v * (1 / 12 - v * (1 / 120 - v * (1 / 252 - v * (1 / 240 - v / 132))))
    return np.float32(np.log(y) - 0.5 / y - series - below)
