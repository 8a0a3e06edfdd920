"""-log p(x | z) from the decoder's raw outputs, with its gradient in closed form."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from models_store.count_rows import CountRows
from models_store.kernels import Logits, can_fuse, fused_gradient, fused_theta_gradient
from models_store.likelihood_kernels import can_fuse_likelihood, fused_negative_log_likelihood
from models_store.likelihoods import log_likelihood, log_likelihood_gradient
from models_store.manifest import Likelihood

FAR_BELOW = -30.0
"""Below this logit softplus and sigmoid are both e^a, to 13 digits."""


@dataclass(frozen=True)
class Head:
    """Which likelihood the decoder's outputs feed, and what turns its scale into a share.

    softmax: scale = softmax(logits), a share of the library; softplus: with size factors.
    """

    likelihood: Likelihood
    softplus_scale: bool

    def scale(self, logits: Float[Tensor, "c g"]) -> Float[Tensor, "c g"]:
        """The activation that makes the decoder's logits positive."""
        return softplus(logits) if self.softplus_scale else torch.softmax(logits, dim=-1)


@dataclass(frozen=True)
class DecoderOutput:
    """Raw outputs of the decoder for a minibatch.

    logits: scale before its activation, (c, g). log_library: (c, 1). log_theta: (g,) or (c, g);
    log sd for the normal likelihood. pi: zero-inflation logits (c, g), zinb only.
    """

    logits: Float[Tensor, "c g"]
    log_library: Float[Tensor, "c 1"]
    log_theta: Float[Tensor, "*#c g"]
    pi: Float[Tensor, "c g"] | None


def negative_log_likelihood(
    head: Head, x: Float[Tensor, "c g"], out: DecoderOutput
) -> Float[Tensor, " c"]:
    """-Σ_g log p(x_g | μ, θ, π) of each cell, with μ = library x scale."""
    mu, theta = out.log_library.exp() * head.scale(out.logits), out.log_theta.exp()
    if can_fuse_likelihood(x, head.likelihood):
        return fused_negative_log_likelihood(x, mu, theta, out.pi)
    log_p = log_likelihood(head.likelihood, x, mu, theta, out.pi)
    return -log_p.sum(-1)


class _Gradient(torch.autograd.Function):
    """Value 0, gradient that of Σ_cells -log p: training needs the slope, not the height.

    With δ = ∂ log p / ∂ log μ, the chain rule through μ = ℓ · scale(a) gives for the softmax
    ∂/∂a = δ - scale · Σ_g δ, for the softplus ∂/∂a = δ σ(a) / softplus(a), and ∂/∂ log ℓ = Σ_g δ.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd functions take their inputs by position
        ctx: Any,
        head: Head,
        x: Tensor,
        logits: Tensor,
        log_library: Tensor,
        log_theta: Tensor,
        pi: Tensor | None,
    ) -> Tensor:
        out = DecoderOutput(logits, log_library, log_theta, pi)
        found = reconstruction_gradients(head, x, out, wants_theta=ctx.needs_input_grad[4])
        d_theta = found.log_theta
        if d_theta is not None and log_theta.dim() == 1:
            d_theta = d_theta.sum(0)
        ctx.gradients = (found.logits, found.log_library, d_theta, found.pi)
        return logits.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (up,) = upstream
        # Scaled in place, so they serve once: a second backward finds none, and fails.
        gradients, ctx.gradients = ctx.gradients, ()
        scaled = (None if g is None else g.mul_(up) for g in gradients)
        return (None, None, *scaled)


@dataclass(frozen=True)
class ReconstructionGradients:
    """Of Σ -log p; by log θ for every cell and gene, where asked for and defined."""

    logits: Float[Tensor, "c g"]
    log_library: Float[Tensor, "c 1"]
    log_theta: Float[Tensor, "c g"] | None
    pi: Float[Tensor, "c g"] | None


def reconstruction_gradients(
    head: Head, x: Float[Tensor, "c g"], out: DecoderOutput, *, wants_theta: bool
) -> ReconstructionGradients:
    """Gradients of Σ_cells -log p by the decoder's outputs (see `_Gradient` for the equations)."""
    fuse = can_fuse(x, head.likelihood, wants_theta=wants_theta) and not head.softplus_scale
    return (_fused if fuse else _by_definition)(head, x, out, wants_theta)


def _by_definition(
    head: Head, x: Tensor, out: DecoderOutput, wants_theta: bool
) -> ReconstructionGradients:
    scale = head.scale(out.logits)
    gradient = log_likelihood_gradient(
        head.likelihood,
        x,
        out.log_library.exp() * scale,
        out.log_theta.exp(),
        out.pi,
        wants_theta=wants_theta,
    )
    delta = gradient.log_mu
    total = delta.sum(-1, keepdim=True)
    if head.softplus_scale:
        d_logits = -delta * _softplus_ratio(out.logits, scale)
    else:
        d_logits = torch.addcmul(-delta, scale, total)
    d_theta = None if gradient.log_theta is None else -gradient.log_theta
    d_pi = None if gradient.pi is None else -gradient.pi
    return ReconstructionGradients(d_logits, -total, d_theta, d_pi)


def _fused(head: Head, x: Tensor, out: DecoderOutput, wants_theta: bool) -> ReconstructionGradients:
    """The same in fewer passes, for the cases that matter most."""
    library, theta = out.log_library.exp(), out.log_theta.exp()
    d_theta = None
    if wants_theta:
        d_theta = fused_theta_gradient(x, head.scale(out.logits), library, theta)
    no_bias = torch.zeros(x.shape[1])
    scale = Logits(out.logits.detach().clone(), no_bias)
    pi = None if out.pi is None else Logits(out.pi.detach().clone(), no_bias)
    d_library = fused_gradient(CountRows.of(x), scale, library, theta, pi)
    return ReconstructionGradients(
        scale.product, d_library, d_theta, None if pi is None else pi.product
    )


def _softplus_ratio(logits: Tensor, scale: Tensor) -> Tensor:
    """σ(a) / softplus(a), which tends to 1 where both underflow."""
    return torch.where(logits > FAR_BELOW, torch.sigmoid(logits) / scale, 1.0)


def reconstruction_slope(
    head: Head, x: Float[Tensor, "c g"], out: DecoderOutput
) -> Float[Tensor, ""]:
    """A zero whose gradient is that of Σ_cells -log p with respect to the decoder's outputs."""
    slope = _Gradient.apply(head, x, out.logits, out.log_library, out.log_theta, out.pi)  # type: ignore[no-untyped-call]
    return torch.as_tensor(slope)
