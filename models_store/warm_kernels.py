"""Compiling (or loading) every kernel before the first job waits for it."""

import torch

from models_store import kernels, likelihood_kernels, sparse_blocks
from models_store.block_kernels import Affine, block_backward, block_forward
from models_store.posterior_kernels import fused_draw, fused_draw_gradient


def warm_up() -> None:
    """Call each once, with tensors of the types that a step has."""
    kernels.warm_up()
    likelihood_kernels.warm_up()
    sparse_blocks.warm_up()
    y, row = torch.ones(2, 4), torch.ones(4)
    for shift in (row, y):
        passed = block_forward(y, shift, Affine(row, row), layer_norm=True)
    block_backward(y, passed, Affine(row, row), layer_norm=True)
    noise = torch.ones(2, 2)
    z, m, exp = fused_draw(y, row, noise, 1e-4)
    fused_draw_gradient(z, (noise, m, exp), 1.0, torch.tensor([[0.0, 1.0]]), 1e-4)
