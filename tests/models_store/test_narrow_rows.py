"""Kernels give the same bytes of the same rows wherever the allocator puts these, however narrow.

Where an array that is written lies within a vector's width behind one that is read, compiled loops
fall back on other instructions, with other last bits. Only rows of a few dozen numbers are that
near each other: hidden layers of 16 units, panels of 20 genes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from models_store.block_kernels import Affine, Passed, block_backward, block_forward
from models_store.count_rows import CountRows
from models_store.kernels import Logits, fused_gradient, fused_theta_gradient
from models_store.likelihood_kernels import fused_negative_log_likelihood
from models_store.posterior_kernels import fused_draw, fused_draw_gradient
from models_store.region_kernels import fused_region_gradient, fused_region_surprise

N, CALLS, KEPT = 6, 4000, 200
Kernel = Callable[..., Sequence[Tensor]]


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def counts(width: int) -> CountRows:
    return CountRows.of(torch.poisson(drawn(N, width).exp()))


def forward(width: int) -> tuple[Kernel, list[Tensor]]:
    def call(y: Tensor, shift: Tensor, slope: Tensor, offset: Tensor) -> Sequence[Tensor]:
        passed = block_forward(y, shift, Affine(slope, offset), layer_norm=True)
        return passed.h, passed.normed, passed.rstd

    return call, [drawn(N, width), drawn(width), torch.ones(width), torch.zeros(width)]


def backward(width: int) -> tuple[Kernel, list[Tensor]]:
    def call(g: Tensor, normed: Tensor, rstd: Tensor, slope: Tensor) -> Sequence[Tensor]:
        passed = Passed(normed, normed, rstd)
        return block_backward(g, passed, Affine(slope, slope), layer_norm=True)

    return call, [drawn(N, width), drawn(N, width).sign(), torch.ones(N), drawn(width)]


def genes(width: int, *, inflated: bool) -> tuple[Kernel, list[Tensor]]:
    x, library = counts(width), torch.full((N, 1), 30.0)

    def call(logits: Tensor, bias: Tensor, theta: Tensor, pi: Tensor) -> Sequence[Tensor]:
        extra = Logits(pi, bias) if inflated else None
        return fused_gradient(x, Logits(logits, bias), library, theta, extra), logits, pi

    return call, [drawn(N, width), drawn(width), drawn(width).exp(), drawn(N, width)]


def theta(width: int) -> tuple[Kernel, list[Tensor]]:
    x, library = counts(width).dense(width), torch.full((N, 1), 30.0)

    def call(share: Tensor, theta: Tensor) -> Sequence[Tensor]:
        return (fused_theta_gradient(x, share, library, theta),)

    return call, [drawn(N, width).softmax(-1), drawn(width).exp()]


def likelihood(width: int) -> tuple[Kernel, list[Tensor]]:
    x = counts(width).dense(width)

    @torch.no_grad()
    def call(mu: Tensor, theta: Tensor, pi: Tensor) -> Sequence[Tensor]:
        return [fused_negative_log_likelihood(x, mu, theta, each) for each in (None, pi)]

    return call, [drawn(N, width).exp(), drawn(width).exp(), drawn(N, width)]


def draw(width: int) -> tuple[Kernel, list[Tensor]]:
    def call(product: Tensor, bias: Tensor, noise: Tensor, prior: Tensor) -> Sequence[Tensor]:
        z, m, exp = fused_draw(product, bias, noise, 1e-4)
        return z, m, exp, fused_draw_gradient(z, (noise, m, exp), 1.0, prior, 1e-4)

    return call, [
        drawn(N, 2 * width),
        drawn(2 * width),
        drawn(N, width),
        torch.tensor([[0.0, 1.0]]),
    ]


def regions(width: int) -> tuple[Kernel, list[Tensor]]:
    x = counts(width)

    def call(logits: Tensor, bias: Tensor, depth: Tensor, factors: Tensor) -> Sequence[Tensor]:
        surprise = fused_region_surprise(x, Logits(logits, bias), depth, factors)
        columns = torch.empty(width)
        total = fused_region_gradient(x, Logits(logits, bias), depth, factors, columns)
        return surprise, total, logits, columns

    return call, [drawn(N, width), drawn(width), drawn(N, 1).sigmoid(), drawn(width).sigmoid()]


KERNELS: dict[str, Callable[[int], tuple[Kernel, list[Tensor]]]] = {
    "block forward": forward,
    "block backward": backward,
    "nb": lambda width: genes(width, inflated=False),
    "zinb": lambda width: genes(width, inflated=True),
    "theta": theta,
    "likelihood": likelihood,
    "posterior": draw,
    "regions": regions,
}


def disturb(generator: random.Random, kept: list[object]) -> None:
    """Let go of some small pieces of memory and take others, so that the next lie elsewhere."""
    for _ in range(8):
        kept[generator.randrange(KEPT)] = bytearray(generator.randrange(8, 400))
    for _ in range(4):
        kept[generator.randrange(KEPT)] = torch.empty(generator.randrange(2, 80))
    kept[generator.randrange(KEPT)] = np.empty(generator.randrange(4, 40), np.float32)


@pytest.mark.parametrize("width", [7, 10, 16])
@pytest.mark.parametrize("kernel", list(KERNELS))
def test_the_same_bytes_at_any_place(kernel: str, width: int) -> None:
    call, given = KERNELS[kernel](width)
    generator, found = random.Random(0), set()
    kept: list[object] = [None] * KEPT
    for _ in range(CALLS):
        disturb(generator, kept)
        made = call(*(each.clone() for each in given))
        found.add(b"".join(each.numpy().tobytes() for each in made))
    assert len(found) == 1
