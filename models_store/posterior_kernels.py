"""A draw from N(m, v), and its way back, in one pass each: on the CPU in float32.

The definition is `posterior_gradients.PosteriorGradients` on any other device: a dozen operations
on a matrix as narrow as the latent, each of which takes longer to call than to compute.
"""

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models_store.elementary import LOG2_E, exp2

_HALF = np.float32(0.5)
_ONE = np.float32(1)


def fused_draw(
    product: Float[Tensor, "c 2n"],
    bias: Float[Tensor, " 2n"],
    noise: Float[Tensor, "c n"],
    eps: float,
) -> tuple[Float[Tensor, "c n"], Float[Tensor, "c n"], Float[Tensor, "c n"]]:
    """z, m and v - eps, from the outputs of both heads side by side."""
    z, m, exp = (torch.empty_like(noise) for _ in range(3))
    out = (z.numpy(), m.numpy(), exp.numpy())
    _draw(product.numpy(), bias.numpy(), noise.numpy(), np.float32(eps), out)
    return z, m, exp


def fused_draw_gradient(
    g: Float[Tensor, "c n"],
    drawn: tuple[Float[Tensor, "c n"], Float[Tensor, "c n"], Float[Tensor, "c n"]],
    kl_weight: float,
    prior: Float[Tensor, "*#c 2"],
    eps: float,
) -> Float[Tensor, "c 2n"]:
    """The gradient by the outputs of both heads from that of z.

    Args:
        g: the gradient of z.
        drawn: the noise, and the m and v - eps of `fused_draw`.
        kl_weight: weight of the KL divergence from the prior.
        prior: its mean and variance, for all cells or for each.
        eps: what is added to the variance.
    """
    found = g.new_empty(g.shape[0], 2 * g.shape[1])
    arrays = tuple(part.numpy() for part in drawn)
    weights = np.float32(kl_weight), np.float32(eps)
    _back(g.numpy(), arrays, weights, prior.numpy(), found.numpy())
    return found


_fast = numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy", cache=True)


@_fast
def _draw(product, bias, noise, eps, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    z, m, exp = out
    cells, n = noise.shape
    for c in range(cells):
        for i in range(n):
            m[c, i] = product[c, i] + bias[i]
            exp[c, i] = exp2((product[c, n + i] + bias[n + i]) * LOG2_E)
            z[c, i] = m[c, i] + np.sqrt(exp[c, i] + eps) * noise[c, i]


@_fast
def _back(g, drawn, weights, prior, found):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    noise, m, exp = drawn
    kl_weight, eps = weights
    cells, n = g.shape
    many = np.int64(prior.shape[0] > 1)
    for c in range(cells):
        mean, precision = prior[c * many, 0], _ONE / prior[c * many, 1]
        for i in range(n):
            v = exp[c, i] + eps
            found[c, i] = g[c, i] + kl_weight * (m[c, i] - mean) * precision
            from_draw = g[c, i] * noise[c, i] / np.sqrt(v)
            found[c, n + i] = _HALF * (from_draw + kl_weight * (precision - _ONE / v)) * exp[c, i]
