"""Category rows and the layers that see them, against their one-hot equivalents."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import one_hot

from models_store.layers import CategoryRows, ConditionalLinear, FullyConnected


def _rows(n_reference: int, n_query: int, width: int) -> CategoryRows:
    rows = CategoryRows(n_reference, width)
    if n_reference > 1:
        nn.init.normal_(rows.reference)
    rows.query = nn.Parameter(torch.randn(n_query, width))
    return rows


@given(st.integers(1, 5), st.integers(0, 4), st.integers(1, 6), st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_category_rows_are_a_one_hot_product(
    n_reference: int, n_query: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    rows = _rows(n_reference, n_query, width)
    code = torch.randint(n_reference + n_query, (17,))
    hot = one_hot(code, n_reference + n_query).float()
    assert torch.equal(rows(code), hot @ torch.cat([rows.reference, rows.query]))


def test_category_rows_mean_and_spread() -> None:
    rows = _rows(4, 2, 5)
    known = rows.reference.detach()
    mean = known.mean(0)
    assert torch.equal(rows.mean_reference, mean)
    assert rows.spread == pytest.approx(float(known.std(0, correction=0).pow(2).mean().sqrt()))
    assert not rows.mean_reference.requires_grad


def test_a_lone_category_is_a_constant_zero() -> None:
    rows = CategoryRows(1, 5)
    assert rows.spread == 0
    assert not rows.mean_reference.any()
    assert "reference" not in dict(rows.named_parameters())
    assert not rows(torch.zeros(3, dtype=torch.long)).any()


@given(st.lists(st.integers(1, 4), max_size=3), st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_conditional_linear_is_a_wide_linear(n_categories: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    linear = ConditionalLinear(4, 3, n_categories)
    x, codes = torch.randn(11, 4), [torch.randint(k, (11,)) for k in n_categories]
    weight = torch.cat([linear.W_x, *(rows.reference for rows in linear.covariate_rows())])
    hot = [one_hot(code, k).float() for code, k in zip(codes, n_categories, strict=True)]
    expected = torch.cat([x, *hot], dim=1) @ weight + linear.b
    torch.testing.assert_close(linear(x, codes), expected)


def test_conditional_linear_draws_with_the_fan_in_of_the_wide_layer() -> None:
    linear = ConditionalLinear(60, 500, [30, 1, 10])
    for weight in (linear.W_x, linear.b, *(r.reference for r in linear.covariate_rows())):
        if weight.shape[0] != 1:
            assert 0.09 < float(weight.detach().abs().max()) <= 0.1
            assert abs(float(weight.detach().mean())) < 0.02


@pytest.mark.parametrize("inject_deeply", [True, False])
def test_fully_connected_projection_and_finish_make_the_whole(inject_deeply: bool) -> None:
    torch.manual_seed(0)
    stack = FullyConnected(
        5, 7, n_layers=3, n_categories=[3], inject_deeply=inject_deeply,
        batch_norm=True, layer_norm=True, dropout_rate=0.2,
    ).eval()  # fmt: skip
    x, codes = torch.randn(6, 5), [torch.tensor([0, 1, 2, 0, 1, 2])]
    assert torch.equal(stack(x, codes), stack.finish(stack.project(x), codes))
    n_tables = sum(len(list(linear.covariate_rows())) for linear in stack.linears)
    assert n_tables == (3 if inject_deeply else 1)
    loose = stack(x, [torch.zeros(6, dtype=torch.long)])
    assert not torch.equal(loose, stack(x, codes))


def test_dropout_only_in_training() -> None:
    torch.manual_seed(0)
    stack = FullyConnected(
        5, 7, n_layers=1, n_categories=[], inject_deeply=True,
        batch_norm=False, layer_norm=False, dropout_rate=0.5,
    )  # fmt: skip
    x = torch.randn(40, 5)
    stack.eval()
    assert torch.equal(stack(x, []), stack(x, []))
    stack.train()
    assert not torch.equal(stack(x, []), stack(x, []))
