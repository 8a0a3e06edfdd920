"""The kernels of the hidden layers and of the posterior against autograd in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models_store.block_kernels import Affine, block_backward, block_forward
from models_store.cells import Posterior
from models_store.coders import VARIANCE_EPS
from models_store.layers import LAYER_NORM_EPS
from models_store.posterior_kernels import fused_draw, fused_draw_gradient

N, H = 9, 19


def _near(ours: Tensor, exact: Tensor) -> bool:
    return float((ours.double() - exact).abs().max()) <= 3e-6 * float(exact.abs().max())


@pytest.mark.parametrize(
    ("per_cell", "layer_norm", "leak"),
    [(True, True, 0.0), (False, False, 0.0), (True, False, 0.25), (False, True, 0.01)],
)
def test_blocks(per_cell: bool, layer_norm: bool, leak: float) -> None:
    torch.manual_seed(0)
    y, shift, g = torch.randn(N, H), torch.randn(*([N, H] if per_cell else [H])), torch.randn(N, H)
    affine = Affine(torch.rand(H) + 0.5, torch.randn(H))
    exact = y.double().requires_grad_()
    v = (exact + shift) * affine.slope.double() + affine.offset.double()
    v = torch.nn.functional.layer_norm(v, (H,), eps=LAYER_NORM_EPS) if layer_norm else v
    h = torch.nn.functional.leaky_relu(v, leak)
    h.backward(g.double())
    passed = block_forward(y, shift, affine, layer_norm=layer_norm, leak=leak)
    assert _near(passed.h, h.detach())
    found, total = block_backward(g, passed, affine, layer_norm=layer_norm, leak=leak)
    assert exact.grad is not None
    assert _near(found, exact.grad)
    assert _near(total, exact.grad.sum(0))


@pytest.mark.parametrize(("prior_rows", "eps"), [(1, VARIANCE_EPS), (N, 0.0)])
def test_posterior(prior_rows: int, eps: float) -> None:
    torch.manual_seed(0)
    product, bias, noise = torch.randn(N, 8), torch.randn(8), torch.randn(N, 4)
    prior = torch.stack([torch.randn(prior_rows), torch.rand(prior_rows) + 0.5], dim=1)
    g = torch.randn(N, 4)
    outputs = (product.double() + bias).requires_grad_()
    m, log_v = outputs.chunk(2, dim=-1)
    posterior = Posterior(m, log_v.exp() + eps)
    exact = posterior.sample(noise.double())
    ((exact * g).sum() + 0.3 * posterior.kl(prior[:, :1], prior[:, 1:]).sum()).backward()
    z, ours_m, exp = fused_draw(product, bias, noise, eps)
    assert _near(z, exact.detach())
    assert outputs.grad is not None
    assert _near(fused_draw_gradient(g, (noise, ours_m, exp), 0.3, prior, eps), outputs.grad)


def test_a_flat_prior_pulls_nowhere() -> None:
    torch.manual_seed(0)
    product, noise, g = torch.randn(N, 8), torch.randn(N, 4), torch.randn(N, 4)
    _, m, exp = fused_draw(product, torch.zeros(8), noise, VARIANCE_EPS)
    flat = torch.tensor([[0.0, torch.inf]])
    found = fused_draw_gradient(g, (noise, m, exp), 1.0, flat, VARIANCE_EPS)
    assert torch.equal(found[:, :4], g)
    assert torch.isfinite(found).all()
