"""MULTIVI trains against a classifier of batches, where there are batches to tell apart."""

from __future__ import annotations

import pytest
import torch

from models_store.cells import Cells
from models_store.manifest import Architecture
from models_store.multivi import MULTIVI
from worker.adversary import Adversary
from worker.reference_training import Schedule, TrainedReference, mean_elbo, train_reference


def network(n_batches: int = 2) -> MULTIVI:
    torch.manual_seed(0)
    sizes = {"n_genes": 12, "n_regions": 15, "n_hidden": 8, "n_latent": 2, "likelihood": "nb"}
    return MULTIVI(Architecture.model_validate(sizes), n_categories=(n_batches,))


def cells(n: int = 150) -> Cells:
    """Two batches; a third of the cells lack genes, and a third regions."""
    generator = torch.Generator().manual_seed(1)
    batch = torch.arange(n) % 2
    rate = torch.where(torch.arange(27) % 3 == 0, 1 + 4.0 * batch[:, None], 1.0)
    x = torch.poisson(rate.float(), generator=generator)
    x[:50, :12] = 0
    x[50:100, 12:] = 0
    return Cells(x, (batch,))


def trained(made: MULTIVI, them: Cells, epochs: int = 10) -> TrainedReference:
    return train_reference(made, them, them, Schedule(epochs, 0), lambda _share: None)


def told_apart(made: MULTIVI, them: Cells) -> float:
    """Share of cells whose batch a classifier finds in their latents."""
    torch.manual_seed(2)
    judge = Adversary(made)
    with torch.no_grad():
        z = made.posterior(made.project(them), them.codes).m
    for _ in range(100):
        judge._learn(z, them.codes[0], 1.0)
    return float((judge.classifier.eval()(z).argmax(-1) == them.codes[0]).float().mean())


def test_training_explains_the_cells_and_is_the_same_twice() -> None:
    made, them = network(), cells()
    before = mean_elbo(made, them, seed=0)
    after = trained(made, them).held_out_elbo
    assert after is not None
    assert after > before + 0.5
    assert trained(network(), them, 6).held_out_elbo == trained(network(), them, 6).held_out_elbo


def test_latents_tell_batches_apart_less_than_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    them = cells()
    with_adversary = network()
    trained(with_adversary, them, 30)
    monkeypatch.setattr(Adversary, "where_needed", classmethod(lambda *_: None))
    without = network()
    trained(without, them, 30)
    assert told_apart(with_adversary, them) < told_apart(without, them)


def test_it_presses_to_the_end_and_one_batch_needs_none() -> None:
    them = cells()
    found = Adversary.where_needed(network(), them)
    assert found is not None
    assert found.weight(1.0) == 1.0
    assert Adversary.where_needed(network(1), them) is None
