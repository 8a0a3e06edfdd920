"""The written-out gradient of the query weights against autograd, in float64."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models_store import head_gradients, scanvi
from models_store.autograd_gradients import AutogradGradients
from models_store.cells import Cells, Noise
from models_store.cvae import CVAE
from models_store.kinds import step_gradients
from models_store.query_gradients import QueryGradients
from models_store.surgery import graft, query_parameters

from .networks import ARCHITECTURES, cells, reference

N_NEW = (2, 1)


def _in_double(them: Cells, codes: tuple[torch.Tensor | int, ...]) -> Cells:
    def double(values: torch.Tensor | None) -> torch.Tensor | None:
        return None if values is None else values.double()

    return dataclasses.replace(
        them,
        x=them.x.double(),
        codes=codes,
        continuous=double(them.continuous),
        size_factor=double(them.size_factor),
    )


def _noise_in_double(noise: Noise) -> Noise:
    parts = (noise.z, noise.library, noise.z2)
    return Noise(*(None if part is None else part.double() for part in parts))


def _moved(network: CVAE, seed: int) -> CVAE:
    """A grafted network whose query rows have left their start."""
    grafted = graft(network.double(), N_NEW)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for rows in query_parameters(grafted).values():
            rows += 0.5 * torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
    return grafted


def _assert_equal_to_autograd(
    grafted: CVAE, them: Cells, seed: int, kl_weight: float, *, threads: int = 1
) -> None:
    single = grafted.draw_noise(len(them.x), torch.Generator().manual_seed(seed))
    noise = _noise_in_double(single)
    projection = grafted.project(them)
    parameters = query_parameters(grafted)
    terms = grafted.loss_terms(them, noise, projection)
    loss = terms.loss(kl_weight * grafted.kl_share)
    exact = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    gradients = step_gradients(grafted, them, projection, threads=threads, minibatch_size=12)
    assert not isinstance(gradients, AutogradGradients)
    found = gradients(torch.arange(len(them.x)), noise, kl_weight)
    for (name, parameter), theirs in zip(parameters.items(), exact, strict=True):
        assert theirs is not None, name
        error = float((found[parameter] - theirs).abs().max())
        assert error <= 1e-9 * float(theirs.abs().max()) + 1e-12, (name, error)


@pytest.mark.parametrize("name", ARCHITECTURES)
@given(seed=st.integers(0, 2**31), kl_weight=st.sampled_from([0.0, 0.3, 1.0]))
@settings(deadline=None, max_examples=8)
def test_gradients_are_those_of_autograd(name: str, seed: int, kl_weight: float) -> None:
    grafted = _moved(reference(**ARCHITECTURES[name]), seed)
    them = cells(n_categories=(5, 3), seed=seed)
    _assert_equal_to_autograd(grafted, _in_double(them, them.codes), seed, kl_weight)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_batch_as_a_number(name: str) -> None:
    """As a fit of one batch alone gives it; no cell then speaks for the other new batch."""
    grafted = _moved(reference(**ARCHITECTURES[name]), 3)
    them = cells(n_categories=(5, 3))
    _assert_equal_to_autograd(grafted, _in_double(them, (4, them.codes[1])), 0, 1.0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_cells_shared_out_among_threads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_gradients, "SMALLEST_PART", 20)
    grafted = _moved(reference(**ARCHITECTURES[name]), 4)
    them = cells(n_categories=(5, 3))
    _assert_equal_to_autograd(grafted, _in_double(them, them.codes), 0, 1.0, threads=3)
    _assert_equal_to_autograd(grafted, _in_double(them, (4, them.codes[1])), 0, 1.0, threads=3)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if "SCANVI" in name])
def test_labels_scored_in_blocks_of_cells(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanvi, "MOST_ROWS", 20)
    grafted = _moved(reference(**ARCHITECTURES[name]), 6)
    them = cells(n_categories=(5, 3))
    _assert_equal_to_autograd(grafted, _in_double(them, them.codes), 0, 0.3)


def test_an_error_in_another_thread_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_gradients, "SMALLEST_PART", 20)
    grafted, them = _moved(reference(dispersion="gene-label"), 5), cells(n_categories=(5, 3))
    them.labels[-1] = 99
    noise = grafted.draw_noise(len(them.x), torch.Generator().manual_seed(0))
    them = _in_double(them, them.codes)
    with pytest.raises(IndexError):
        QueryGradients(grafted, them, grafted.project(them), threads=2)(
            torch.arange(len(them.x)), Noise(noise.z.double()), 1.0
        )
