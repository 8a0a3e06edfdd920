"""A row's product has the same bytes wherever the row stands, also where few outputs are asked."""

from __future__ import annotations

import pytest
import torch

from models_store.blocks import BLOCK
from models_store.layers import ConditionalLinear
from models_store.narrow_products import NARROWEST, Head, affine


@pytest.mark.parametrize("n_in", [5, 30, 128])
@pytest.mark.parametrize("n_out", [1, 5, 10])
def test_a_row_has_the_same_bytes_at_another_place(n_in: int, n_out: int) -> None:
    torch.manual_seed(n_in)
    x, order = torch.randn(BLOCK, n_in), torch.randperm(BLOCK)
    head, layer = Head(n_in, n_out), ConditionalLinear(n_in, n_out, [2])
    for product in (head, layer.expression):
        assert torch.equal(product(x[order]), product(x)[order])


@pytest.mark.parametrize("n_out", [1, NARROWEST - 1, NARROWEST, NARROWEST + 1])
def test_it_is_the_product(n_out: int) -> None:
    x, weight, bias = (
        torch.randn(shape, dtype=torch.float64) for shape in ((7, 3), (n_out, 3), n_out)
    )
    weight.requires_grad_()
    found, expected = affine(x, weight, bias), x @ weight.T + bias
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous()
    given = [torch.autograd.grad(each.square().sum(), weight)[0] for each in (found, expected)]
    torch.testing.assert_close(*given)
    torch.testing.assert_close(affine(x[None], weight, bias), expected[None])
