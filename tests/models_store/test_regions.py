"""The likelihood of regions: its kernel and its definition against autograd in float64."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models_store.cells import select_cells
from models_store.count_rows import CountRows
from models_store.head_gradients import HeadInput
from models_store.kernels import Logits
from models_store.peakvi import PEAKVI
from models_store.poissonvi import POISSONVI
from models_store.region_head import RegionHead
from models_store.region_kernels import fused_region_gradient
from models_store.regions import (
    Openness,
    by_definition,
    negative_log_bernoulli,
    openness_gradients,
)

from .networks import cells, reference

N, R = 7, 13


def _out(seed: int, *, spread: float = 2.0, parts: bool = True) -> tuple[torch.Tensor, Openness]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.poisson(torch.full((N, R), 0.7), generator=generator)
    logits, depth, factors = (
        spread * torch.randn(shape, generator=generator) for shape in ((N, R), (N, 1), (R,))
    )
    return x, Openness(logits, depth if parts else None, factors if parts else None)


def _exact(x: torch.Tensor, out: Openness) -> list[torch.Tensor | None]:
    """By autograd in float64 of what torch itself calls a BCE."""
    leaves = [
        None if part is None else part.double().requires_grad_()
        for part in (out.logits, out.depth, out.factors)
    ]
    negative_log_bernoulli(x.double(), Openness(*leaves)).sum().backward()
    return [None if leaf is None else leaf.grad for leaf in leaves]


def _near(ours: torch.Tensor, exact: torch.Tensor | None, limit: float) -> bool:
    assert exact is not None
    return float((ours.double() - exact).abs().max()) <= limit * float(exact.abs().max())


@given(seed=st.integers(0, 2**31), spread=st.sampled_from([0.1, 1.0, 3.0]), parts=st.booleans())
@settings(deadline=None, max_examples=20)
def test_gradients_are_those_of_autograd(seed: int, spread: float, *, parts: bool) -> None:
    x, out = _out(seed, spread=spread, parts=parts)
    exact = _exact(x, out)
    double = Openness(*(None if p is None else p.double() for p in dataclasses.astuple(out)))
    for found, limit in (
        (by_definition(x.double(), double, wants_factors=parts), 1e-9),
        (openness_gradients(x, out, wants_factors=parts), 2e-5),
    ):
        assert _near(found.logits, exact[0], limit)
        if parts:
            assert _near(found.depth, exact[1], limit)
            assert found.factors is not None
            assert _near(found.factors, exact[2], limit)


@pytest.mark.parametrize("far", [-300.0, -90.0, 90.0, 300.0])
def test_extreme_logits_give_numbers(far: float) -> None:
    x, out = _out(0)
    for extreme in (
        dataclasses.replace(out, logits=torch.full((N, R), far)),
        Openness(torch.full((N, R), far), torch.full((N, 1), far), torch.full((R,), far)),
        Openness(torch.full((N, R), far), None, None),
    ):
        found = openness_gradients(x, extreme, wants_factors=True)
        for part in dataclasses.astuple(found):
            assert torch.isfinite(part).all()
        value = negative_log_bernoulli(x, extreme)
        assert torch.isfinite(value).all()
        assert float(value.max()) <= 100 * R


@pytest.mark.parametrize("spread", [1.0, 8.0, 30.0])
def test_the_surprise_without_a_graph(spread: float) -> None:
    """It is BCE with logits where nothing but p is modelled, however far these are."""
    generator = torch.Generator().manual_seed(0)
    logits = (spread * torch.randn(N, R, generator=generator)).clamp(-80, 80)
    x = torch.bernoulli(torch.full((N, R), 0.3), generator=generator)
    expected = nn.functional.binary_cross_entropy_with_logits(
        logits.double(), x.double(), reduction="none"
    )
    with torch.no_grad():
        found = negative_log_bernoulli(x, Openness(logits, None, None))
    assert torch.allclose(found.double(), expected.sum(-1), rtol=1e-6)


def test_the_surprise_is_the_same_with_and_without_a_graph() -> None:
    x, out = _out(0)
    kept = negative_log_bernoulli(x, out)
    with torch.no_grad():
        assert torch.allclose(negative_log_bernoulli(x, out), kept, rtol=1e-5)


def test_a_region_is_open_however_often_it_is_seen() -> None:
    x, out = _out(1)
    once = openness_gradients((x > 0).float(), out, wants_factors=True)
    often = openness_gradients(7 * x, out, wants_factors=True)
    for a, b in zip(dataclasses.astuple(once), dataclasses.astuple(often), strict=True):
        assert torch.equal(a, b)


def test_stored_zeros_are_zeros() -> None:
    x, out = _out(2)
    rows = CountRows.of(x)
    stored = CountRows.of(x + 1)  # every region is stored
    values = x.flatten().numpy()
    stored = dataclasses.replace(stored, values=values)
    found = []
    for each in (rows, stored):
        logits = Logits(out.logits.clone(), torch.zeros(R))
        total = fused_region_gradient(each, logits, torch.full((N, 1), 0.5), torch.ones(R))
        found.append((logits.product, total))
    torch.testing.assert_close(found[0], found[1])


def test_a_head_gives_each_cell_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    network, them = reference(kind=PEAKVI), cells(9)
    assert isinstance(network, PEAKVI)
    h, depth = torch.randn(9, 8), torch.randn(9, 1)
    found = {}
    for way, dtype in (("fused", torch.float32), ("defined", torch.float64)):
        network = network.to(dtype)
        x = them.x.to(dtype)
        head = RegionHead(network.decoder.output, network.region_factors, x, has_depth=True)
        assert (head.rows is None) == (way == "defined")
        monkeypatch.setattr("models_store.region_head.CELLS_AT_ONCE", 4)
        index = torch.tensor([3, 0, 8, 1, 2, 7])
        given_ = HeadInput(
            h[index].to(dtype), depth[index].to(dtype), select_cells(them, index), index
        )
        found[way] = head(given_)
    assert _near(found["fused"].h, found["defined"].h, 1e-5)
    assert _near(found["fused"].log_library, found["defined"].log_library, 1e-5)


@torch.no_grad()
def test_accessibility_is_a_probability_and_shares_sum_to_one() -> None:
    for kind, options in ((PEAKVI, {}), (POISSONVI, {"likelihood": "poisson"})):
        network = reference(kind=kind, **options)
        z, codes = torch.randn(5, 3), (torch.tensor([0, 1, 2, 1, 0]), 1)
        whole = network.accessibility(z, codes)
        assert (whole >= 0).all()
        assert (whole <= 1).all()
        shares = network.expected_shares(z, codes)
        torch.testing.assert_close(shares.sum(1), torch.ones(5))
