"""A recorded step gives the gradients of the step itself."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from models_store import replayed_gradients
from models_store.cells import Cells, Noise, Projection
from models_store.query_gradients import QueryGradients
from models_store.replayed_gradients import ReplayedGradients
from models_store.scvi import SCVI
from models_store.surgery import graft, query_parameters

from .networks import ARCHITECTURES, cells, reference

SIZE = 5
MINIBATCHES = ((0, 1, 2, 3, 4), (7, 3, 11, 5, 6), (8, 9), (10, 2, 0, 4, 1))
RECORDED = ("recommended", "batch norm, zinb", "latent library", "ln", "size factor, poisson")


def _grafted(name: str, device: str) -> tuple[SCVI, Cells, Projection]:
    grafted = graft(reference(**ARCHITECTURES[name]).to(device), (2, 1))
    them = cells(n_categories=(5, 3))
    there = {
        field.name: value.to(device)
        for field in dataclasses.fields(them)
        if isinstance(value := getattr(them, field.name), torch.Tensor)
    }
    them = dataclasses.replace(them, **there, codes=(4, them.codes[1].to(device)))
    with torch.no_grad():
        return grafted, them, grafted.project(them)


def _noise(grafted: SCVI, n: int, seed: int) -> Noise:
    return grafted.draw_noise(n, torch.Generator().manual_seed(seed))


def _assert_replays(name: str, device: str, *, tolerance: float) -> ReplayedGradients:
    grafted, them, projection = _grafted(name, device)
    replayed = ReplayedGradients(QueryGradients(grafted, them, projection), SIZE)
    for seed, chosen in enumerate(MINIBATCHES):
        index = torch.tensor(chosen, device=device)
        noise, weight = _noise(grafted, len(chosen), seed), seed / 3
        with torch.no_grad():  # as Adam does between two steps, in place
            for rows in query_parameters(grafted).values():
                rows += 0.1
        found = replayed(index, noise, weight)
        exact = QueryGradients(grafted, them, projection)(index, noise, weight)
        assert found.keys() == exact.keys()
        for parameter, g in exact.items():
            error = float((found[parameter] - g).abs().max())
            assert error <= tolerance * float(g.abs().max()), (name, seed)
    return replayed


@pytest.mark.parametrize("name", RECORDED)
def test_a_replay_off_the_gpu_is_the_step(name: str) -> None:
    replayed = _assert_replays(name, "cpu", tolerance=0)
    assert replayed.recording is not None
    assert len(replayed.recording.index) == SIZE


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", RECORDED)
def test_a_replay_on_a_gpu_is_the_step(name: str) -> None:
    replayed = _assert_replays(name, "cuda", tolerance=1e-6)
    assert replayed.recording is not None


@pytest.mark.parametrize("name", ["SCANVI", "gene-batch", "gene-cell"])
def test_steps_that_look_at_their_cells_are_not_recorded(name: str) -> None:
    assert _assert_replays(name, "cpu", tolerance=0).recording is None


def test_without_a_recording_the_step_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(replayed_gradients, "record", refuse)
    replayed = _assert_replays("recommended", "cpu", tolerance=0)
    assert replayed.recording is None
