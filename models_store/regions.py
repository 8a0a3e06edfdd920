"""Regions of chromatin that are open or not: the networks of PEAKVI and their likelihood.

    y = p d f     p = σ(decoder(z, s)) of a region in a cell, d = σ(depth encoder(x, s)) of the
                  cell, f = σ(φ) of the region (Ashuach et al. 2022)
    -log p(x)     BCE(y, x > 0), with each logarithm at least -100, as torch has it

Notation as in `layers`; r regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.coders import NormsAsked, SizeEncoder, decoder_layers
from models_store.count_rows import CountRows
from models_store.kernels import Logits
from models_store.layers import Codes
from models_store.manifest import Architecture
from models_store.region_kernels import (
    can_fuse_regions,
    fused_region_gradient,
    fused_region_surprise,
)
from models_store.sparse_counts import dense

FLOOR = 1e-12
"""What torch divides the gradient of a BCE by at least."""


def depth_encoder(n_in: int, a: Architecture, n_categories: Sequence[int]) -> SizeEncoder:
    """The logit of d from counts: layer norm always, covariates in the first layer alone."""
    normed: NormsAsked = {"batch_norm": False, "layer_norm": True}
    return SizeEncoder(n_in, a, n_categories, inject_deeply=False, normed=normed)


class RegionDecoder(nn.Module):
    """z and covariates to the logit of each region's p; no dropout."""

    def __init__(self, n_in: int, a: Architecture, n_categories: Sequence[int]) -> None:
        super().__init__()
        self.layers = decoder_layers(n_in, a, n_categories, activation="leaky_relu")
        self.output = nn.Linear(a.n_hidden, a.n_regions)

    def forward(self, z: Float[Tensor, "c z"], codes: Codes) -> Float[Tensor, "c r"]:
        """The logits of p."""
        return torch.as_tensor(self.output(self.layers(z, codes)))


@dataclass(frozen=True)
class Openness:
    """What the probability that a region is seen open is made of."""

    logits: Float[Tensor, "c r"]
    """Of p."""
    depth: Float[Tensor, "c 1"] | None
    """The logit of d; None: 1."""
    factors: Float[Tensor, " r"] | None
    """φ; None: f is 1."""

    def probability(self) -> Float[Tensor, "c r"]:
        """y = p d f."""
        y = torch.sigmoid(self.logits)
        for logit in (self.depth, self.factors):
            if logit is not None:
                y = y * torch.sigmoid(logit)
        return y


def negative_log_bernoulli(x: Float[Tensor, "c r"], out: Openness) -> Float[Tensor, " c"]:
    """Σ_r BCE(y, x > 0) of each cell."""
    if can_fuse_regions(x) and not torch.is_grad_enabled():
        d, f = shares(out)
        logits = Logits(out.logits, torch.zeros(x.shape[1]))
        return fused_region_surprise(CountRows.of(x), logits, d, f)
    x = dense(x)
    seen = (x > 0).to(out.logits.dtype)
    return nn.functional.binary_cross_entropy(out.probability(), seen, reduction="none").sum(-1)


@dataclass(frozen=True)
class OpennessGradients:
    """Of Σ BCE by what `Openness` holds."""

    logits: Float[Tensor, "c r"]
    depth: Float[Tensor, "c 1"]
    factors: Float[Tensor, " r"] | None


def openness_gradients(
    x: Float[Tensor, "c r"], out: Openness, *, wants_factors: bool
) -> OpennessGradients:
    """Gradients of Σ_cells BCE(y, x > 0)."""
    if not can_fuse_regions(x):
        return by_definition(x, out, wants_factors=wants_factors)
    logits = Logits(out.logits.detach().clone(), torch.zeros(x.shape[1]))
    columns = torch.empty(x.shape[1]) if wants_factors else None
    d, f = shares(out)
    total = fused_region_gradient(CountRows.of(x), logits, d, f, columns)
    of_factors = None if columns is None else columns * (1 - f)
    return OpennessGradients(logits.product, total * (1 - d), of_factors)


def shares(out: Openness) -> tuple[Float[Tensor, "c 1"], Float[Tensor, " r"]]:
    """d of each cell and f of each region, 1 where the network has none."""
    n_cells, n_regions = out.logits.shape
    depth, factors = out.depth, out.factors
    d = out.logits.new_ones(n_cells, 1) if depth is None else torch.sigmoid(depth)
    f = out.logits.new_ones(n_regions) if factors is None else torch.sigmoid(factors)
    return d, f


def by_definition(
    x: Float[Tensor, "c r"], out: Openness, *, wants_factors: bool
) -> OpennessGradients:
    """With t = 1[x > 0]: ∂/∂y = (y - t) / max(y (1 - y), 1e-12), and for each of the three
    sigmoids ∂/∂ its logit = y (1 - σ) ∂/∂y, summed over what it is shared by."""
    d, f = shares(out)
    p = torch.sigmoid(out.logits)
    y = p * d * f
    slope = y * (y - (dense(x) > 0).to(y.dtype)) / (y * (1 - y)).clamp(min=FLOOR)
    of_factors = slope.sum(0) * (1 - f) if wants_factors else None
    return OpennessGradients(
        slope * torch.sigmoid(-out.logits), slope.sum(-1, keepdim=True) * (1 - d), of_factors
    )


class _Gradient(torch.autograd.Function):
    """Value 0, gradient that of Σ_cells BCE: training needs the slope, not the height."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, logits: Tensor, depth: Tensor | None, factors: Tensor | None
    ) -> Tensor:
        out = Openness(logits, depth, factors)
        found = openness_gradients(x, out, wants_factors=ctx.needs_input_grad[3])
        of_depth = None if depth is None else found.depth
        ctx.gradients = (found.logits, of_depth, found.factors)
        return logits.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (up,) = upstream
        # Scaled in place, so they serve once: a second backward finds none, and fails.
        gradients, ctx.gradients = ctx.gradients, ()
        return (None, *(None if g is None else g.mul_(up) for g in gradients))


def openness_slope(x: Float[Tensor, "c r"], out: Openness) -> Float[Tensor, ""]:
    """A zero whose gradient is that of Σ_cells BCE(y, x > 0) by what `out` holds."""
    slope = _Gradient.apply(x, out.logits, out.depth, out.factors)  # type: ignore[no-untyped-call]
    return torch.as_tensor(slope)
