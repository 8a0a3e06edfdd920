"""totalVI's written-out gradient of the query weights against autograd, in float64."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models_store import head_gradients, total_head
from models_store.cells import Cells, Noise
from models_store.layers import Code
from models_store.surgery import graft, query_parameters
from models_store.total_gradients import TotalGradients
from models_store.totalvi import TOTALVI

from .total_networks import TOTAL_ARCHITECTURES, in_double, total_cells, total_reference

N_NEW = (2, 1)


def _moved(network: TOTALVI, seed: int) -> TOTALVI:
    """A grafted network whose query rows have left their start."""
    grafted = graft(network, N_NEW)
    assert isinstance(grafted, TOTALVI)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for rows in query_parameters(grafted).values():
            rows += 0.3 * torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
    return grafted


def _noise(grafted: TOTALVI, n_cells: int, seed: int) -> Noise:
    noise = grafted.draw_noise(n_cells, torch.Generator().manual_seed(seed))
    parts = {name: part for name, part in vars(noise).items() if part is not None}
    dtype = grafted.library_prior.dtype
    return dataclasses.replace(noise, **{name: part.to(dtype) for name, part in parts.items()})


def _assert_equal_to_autograd(
    grafted: TOTALVI, them: Cells, *, kl_weight: float = 1.0, threads: int = 1, within: float = 1e-9
) -> None:
    noise, projection = _noise(grafted, len(them.x), 0), grafted.project(them)
    parameters = query_parameters(grafted)
    terms = grafted.loss_terms(them, noise, projection)
    exact = torch.autograd.grad(terms.loss(kl_weight), list(parameters.values()), allow_unused=True)
    gradients = TotalGradients(grafted, them, projection, threads=threads)
    found = gradients(torch.arange(len(them.x)), noise, kl_weight)
    assert found.keys() == set(parameters.values())
    for (name, parameter), theirs in zip(parameters.items(), exact, strict=True):
        assert theirs is not None, name
        error = float((found[parameter] - theirs).abs().max())
        assert error <= within * float(theirs.abs().max()) + within * 1e-3, (name, error)


def _batch(code: Code, them: Cells) -> Cells:
    return dataclasses.replace(them, codes=(code, *them.codes[1:]))


@pytest.mark.parametrize("name", TOTAL_ARCHITECTURES)
@given(seed=st.integers(0, 2**31), kl_weight=st.sampled_from([0.0, 0.3, 1.0]))
@settings(deadline=None, max_examples=5)
def test_gradients_are_those_of_autograd(name: str, seed: int, kl_weight: float) -> None:
    grafted = _moved(total_reference(**TOTAL_ARCHITECTURES[name]).double(), seed)
    them = total_cells(n_categories=(5, 3), seed=seed)
    _assert_equal_to_autograd(grafted, in_double(them), kl_weight=kl_weight)


@pytest.mark.parametrize("name", TOTAL_ARCHITECTURES)
def test_one_batch_as_a_number_and_cells_shared_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a fit of one batch alone gives it; no cell then speaks for the other new batch."""
    monkeypatch.setattr(head_gradients, "SMALLEST_PART", 20)
    grafted = _moved(total_reference(**TOTAL_ARCHITECTURES[name]).double(), 3)
    them = in_double(total_cells(n_categories=(5, 3)))
    for batch in (them.codes[0], 4):
        _assert_equal_to_autograd(grafted, _batch(batch, them), threads=3)


@pytest.mark.parametrize("name", ["recommended", "batch norm, zinb, two decoder layers"])
def test_the_kernels_of_float32(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(total_head, "CELLS_AT_ONCE", 5)
    grafted = _moved(total_reference(**TOTAL_ARCHITECTURES[name]), 3)
    them = total_cells(n_categories=(5, 3))
    for batch in (them.codes[0], 4):
        gradients = TotalGradients(grafted, them, grafted.project(them))
        assert isinstance(gradients.head.head, total_head.FusedTotalHead)
        _assert_equal_to_autograd(grafted, _batch(batch, them), within=2e-5)


def test_a_library_that_is_cut_off_has_no_slope() -> None:
    grafted = _moved(total_reference(library="latent").double(), 1)
    assert grafted.library_encoder is not None
    with torch.no_grad():
        grafted.library_encoder.mean.bias += 15.0
    _assert_equal_to_autograd(grafted, in_double(total_cells(n_categories=(5, 3))))
