"""The elementwise part of the closed-form gradients, fused: one pass over cells x genes, not ten.

What these compute is written out in `likelihoods.log_likelihood_gradient`, which is the definition
and serves every other case (other likelihoods, gradients of θ, float64, GPUs). One thread each:
a pass takes a fraction of a millisecond, about what waking another thread costs.
"""

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models_store.likelihoods import EPS
from models_store.manifest import Likelihood

_EPS = np.float32(EPS)
_ONE = np.float32(1)
_ZERO = np.float32(0)
_FINITE = np.float32(126)
_LOG2_E = np.float32(1 / np.log(2))


def fused_gradient(
    x: Float[Tensor, "c g"],
    scale: Float[Tensor, "c g"],
    library: Float[Tensor, "c 1"],
    theta: Float[Tensor, "*#c g"],
    pi: Float[Tensor, "c g"] | None,
) -> tuple[Float[Tensor, "c g"], Float[Tensor, "c 1"], Float[Tensor, "c g"] | None]:
    """Gradients of Σ -log p for nb (π None) or zinb under a softmax scale, on the CPU in float32.

    Args:
        x: counts.
        scale: softmax of the decoder's logits; overwritten.
        library: counts that the scale shares out.
        theta: inverse dispersion by gene, or by cell and gene.
        pi: zero-inflation logits.

    Returns:
        The gradients by the logits, by the log library, and by π.
    """
    rows = theta.detach().view(-1, theta.shape[-1]).numpy()
    depth, share = library.detach().numpy()[:, 0], scale.detach().numpy()
    total = torch.empty_like(library)
    if pi is None:
        _nb(x.numpy(), share, depth, rows, total.numpy()[:, 0])
        return scale, total, None
    from_nb, d_pi = torch.empty_like(scale), torch.empty_like(scale)
    odds, zero = d_pi.numpy(), from_nb.numpy()
    _zero_ratio(share, depth, rows, zero)
    np.log2(zero, out=zero)
    _odds(rows, pi.detach().numpy(), zero, odds)
    np.exp2(zero, out=zero)
    np.exp2(odds, out=odds)
    _zinb(x.numpy(), share, depth, rows, zero, odds, total.numpy()[:, 0])
    return scale, total, d_pi


def fused_theta_gradient(
    x: Float[Tensor, "c g"],
    scale: Float[Tensor, "c g"],
    library: Float[Tensor, "c 1"],
    theta: Float[Tensor, "*#c g"],
) -> Float[Tensor, "c g"]:
    """Gradient of -log p by log θ for nb; `scale` is read only."""
    detached = theta.detach().view(-1, theta.shape[-1])
    depth, share = library.detach().numpy()[:, 0], scale.detach().numpy()
    d_theta = torch.empty_like(scale)
    _zero_ratio(share, depth, detached.numpy(), d_theta.numpy())
    np.log(d_theta.numpy(), out=d_theta.numpy())
    psi = torch.digamma(detached)
    _theta(x.numpy(), share, depth, detached.numpy(), psi.numpy(), d_theta.numpy())
    return d_theta


def can_fuse(x: Tensor, likelihood: Likelihood, *, wants_theta: bool) -> bool:
    """Whether the fused kernels know this case."""
    known = likelihood == "nb" or (likelihood == "zinb" and not wants_theta)
    return known and x.device.type == "cpu" and x.dtype == torch.float32


def warm_up() -> None:
    """Compile (or load) the kernels before the first job waits for them."""
    cell, third, one = torch.ones(2, 3), torch.full((2, 3), 1 / 3), torch.ones(2, 1)
    fused_theta_gradient(cell, third, one, torch.ones(3))
    for pi in (None, torch.zeros(2, 3)):
        fused_gradient(cell, third.clone(), one, torch.ones(3), pi)


@numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def _nb(x, share, depth, theta, total):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    cells, genes = share.shape
    many = np.int64(theta.shape[0] > 1)
    for c in range(cells):
        row = c * many
        delta = np.empty(genes, np.float32)
        summed = _ZERO
        for g in range(genes):
            mu = depth[c] * share[c, g]
            r = mu / (mu + (theta[row, g] + _EPS))
            d = x[c, g] * (mu / (mu + _EPS)) - (x[c, g] + theta[row, g]) * r
            delta[g] = d
            summed += d
        for g in range(genes):
            share[c, g] = share[c, g] * summed - delta[g]
        total[c] = -summed


@numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def _zero_ratio(share, depth, theta, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """(θ+e) / (θ+μ+e): its logarithm times θ is log NB(0)."""
    many = np.int64(theta.shape[0] > 1)
    for c in range(share.shape[0]):
        row = c * many
        for g in range(share.shape[1]):
            shape = theta[row, g] + _EPS
            out[c, g] = shape / (shape + depth[c] * share[c, g])


@numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def _odds(theta, pi, zero, odds):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Binary logarithms of the odds that a zero is an extra one: with the count, and without.

    `zero` comes in as log2((θ+e)/(θ+μ+e)); e^π / NB(0) are the odds once the count is seen.
    """
    many = np.int64(theta.shape[0] > 1)
    for c in range(odds.shape[0]):
        row = c * many
        for g in range(odds.shape[1]):
            extra = pi[c, g] * _LOG2_E
            zero[c, g] = min(extra - theta[row, g] * zero[c, g], _FINITE)
            odds[c, g] = min(extra, _FINITE)


@numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def _zinb(x, share, depth, theta, zero, odds, total):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0917
    """`zero` and `odds` come in as the odds of `_odds`; `odds` leaves as the gradient by π."""
    cells, genes = share.shape
    many = np.int64(theta.shape[0] > 1)
    for c in range(cells):
        row = c * many
        delta = np.empty(genes, np.float32)
        summed = _ZERO
        for g in range(genes):
            s = _ONE / (_ONE + (_ZERO if x[c, g] > _EPS else zero[c, g]))
            mu = depth[c] * share[c, g]
            r = mu / (mu + (theta[row, g] + _EPS))
            d = x[c, g] * (mu / (mu + _EPS)) - (x[c, g] + s * theta[row, g]) * r
            odds[c, g] = s - _ONE / (_ONE + odds[c, g])
            delta[g] = d
            summed += d
        for g in range(genes):
            share[c, g] = share[c, g] * summed - delta[g]
        total[c] = -summed


@numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def _theta(x, share, depth, theta, psi_theta, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """`out` comes in as log((θ+e)/(θ+μ+e)) and leaves as the gradient of -log p by log θ."""
    cells, genes = share.shape
    many = np.int64(theta.shape[0] > 1)
    for c in range(cells):
        row = c * many
        for g in range(genes):
            t = theta[row, g]
            over = t + _EPS + depth[c] * share[c, g]
            out[c, g] = -t * (out[c, g] + t / (t + _EPS) - (t + x[c, g]) / over)
        for g in range(genes):  # most counts are zero, where the digammas cancel
            if x[c, g] > _EPS:
                t = theta[row, g]
                out[c, g] -= t * (_digamma(x[c, g] + t) - psi_theta[row, g])


@numba.njit(cache=True)
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
