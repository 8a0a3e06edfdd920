"""The elementwise part of an ELBO, fused: -log p of each cell in one visit, not ten passes.

What these compute is `likelihoods.log_nb` and `log_zinb`, which are the definition and serve every
other case. Where a count is zero all of the log-gammas cancel, and most counts are.
"""

import math

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models_store.elementary import LOG2_E, exp2, log1p, part_of_kernel
from models_store.likelihoods import EPS
from models_store.manifest import Likelihood

_EPS = np.float32(EPS)
_ZERO = np.float32(0)


def fused_negative_log_likelihood(
    x: Float[Tensor, "c g"],
    mu: Float[Tensor, "c g"],
    theta: Float[Tensor, "*#c g"],
    pi: Float[Tensor, "c g"] | None,
) -> Float[Tensor, " c"]:
    """-Σ_g log p(x_g | μ, θ, π) for nb (π None) or zinb, on the CPU in float32."""
    rows = theta.detach().reshape(-1, theta.shape[-1]).contiguous()
    of_theta = torch.lgamma(rows.double()).numpy()
    total = torch.empty(len(x), dtype=torch.float64)
    arrays = (x.contiguous().numpy(), mu.detach().contiguous().numpy(), rows.numpy())
    if pi is None:
        _nb(*arrays, of_theta, total.numpy())
    else:
        _zinb(*arrays, of_theta, pi.detach().contiguous().numpy(), total.numpy())
    return total.float()


def can_fuse_likelihood(x: Tensor, likelihood: Likelihood) -> bool:
    """Whether the fused kernels know this case. They keep no graph."""
    known = likelihood in ("nb", "zinb") and not torch.is_grad_enabled()
    return known and x.device.type == "cpu" and x.dtype == torch.float32


def warm_up() -> None:
    """Compile (or load) the kernels before the first job waits for them."""
    x = torch.ones(2, 3)
    for pi in (None, torch.zeros(2, 3)):
        fused_negative_log_likelihood(x, x, torch.ones(3), pi)


_fast = numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)


@part_of_kernel
def _of_count(x, mu, theta, of_theta):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """What log NB(x) has beside log NB(0), for a count above zero."""
    there = np.float64(mu) + EPS
    gammas = math.lgamma(np.float64(x) + theta) - of_theta - math.lgamma(np.float64(x) + 1.0)
    return x * math.log(there / (there + theta)) + gammas


@_fast
def _nb(x, mu, theta, of_theta, total):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    cells, genes = x.shape
    many = np.int64(theta.shape[0] > 1)
    for c in range(cells):
        row, found = c * many, 0.0
        for g in range(genes):
            t = theta[row, g]
            found += np.float64(t * log1p(mu[c, g] / (t + _EPS)))
        for g in range(genes):
            if x[c, g] > _EPS:
                found -= _of_count(x[c, g], mu[c, g], theta[row, g], of_theta[row, g])
        total[c] = found


@part_of_kernel
def _softplus(t):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return max(t, _ZERO) + log1p(exp2(-abs(t) * LOG2_E))


@_fast
def _zinb(x, mu, theta, of_theta, pi, total):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """-log p is softplus(-π) less softplus(log NB(0) - π) at a zero, less log NB(x) - π above."""
    cells, genes = x.shape
    many = np.int64(theta.shape[0] > 1)
    for c in range(cells):
        row, found = c * many, 0.0
        for g in range(genes):
            t = theta[row, g]
            of_zero = -t * log1p(mu[c, g] / (t + _EPS)) - pi[c, g]
            joint = of_zero if x[c, g] > _EPS else _softplus(of_zero)
            found += np.float64(_softplus(-pi[c, g]) - joint)
        for g in range(genes):
            if x[c, g] > _EPS:
                found -= _of_count(x[c, g], mu[c, g], theta[row, g], of_theta[row, g])
        total[c] = found
