"""MULTIVI trains against a classifier of batches, where there are batches to tell apart."""

from __future__ import annotations

import torch

from models_store.cells import Cells
from models_store.manifest import Architecture
from models_store.multivi import MULTIVI
from worker import reference_training
from worker.adversary import Adversary
from worker.reference_training import Optimiser, Schedule, TrainedReference, train_reference


def network(n_batches: int = 2) -> MULTIVI:
    torch.manual_seed(0)
    sizes = {"n_genes": 12, "n_regions": 15, "n_hidden": 8, "n_latent": 2, "likelihood": "nb"}
    return MULTIVI(Architecture.model_validate(sizes), n_categories=(n_batches,))


def cells(n: int = 150) -> Cells:
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
    judge = Adversary(2, 2, weight_decay=0.0)
    with torch.no_grad():
        z = made.posterior(made.project(them), them.codes).m
    for _ in range(100):
        judge.learn(z, them.codes[0])
    return float((judge.eval()(z).argmax(-1) == them.codes[0]).float().mean())


def test_training_explains_the_cells_and_is_the_same_twice() -> None:
    made, them = network(), cells()
    before = reference_training.mean_elbo(made, them, seed=0)
    after = trained(made, them).held_out_elbo
    assert after is not None
    assert after > before + 0.5
    assert trained(network(), them, 6).held_out_elbo == trained(network(), them, 6).held_out_elbo
    assert not made.training


def test_latents_tell_batches_apart_less_than_without_it(monkeypatch) -> None:
    them = cells()
    with_rival = network()
    trained(with_rival, them, 30)
    monkeypatch.setattr(reference_training, "_rival", lambda *_: None)
    without = network()
    trained(without, them, 30)
    assert told_apart(with_rival, them) < told_apart(without, them)


def test_one_batch_needs_none() -> None:
    made, them = network(1), cells()
    them = Cells(them.x, (torch.zeros(150, dtype=torch.long),))
    assert reference_training._rival(made, Optimiser()) is None
    assert trained(made, them, 2).held_out_elbo is not None
    assert reference_training._rival(network(), Optimiser()) is not None


def test_a_fooled_classifier_thinks_of_any_batch_but_the_right_one() -> None:
    torch.manual_seed(0)
    judge = Adversary(2, 3, weight_decay=0.0).eval()
    z, batch = torch.randn(9, 2, requires_grad=True), torch.arange(9) % 3
    before = torch.softmax(judge(z), -1).gather(1, batch[:, None]).mean()
    (slope,) = torch.autograd.grad(judge.fool(z, batch), z)
    after = torch.softmax(judge(z - 0.5 * slope), -1).gather(1, batch[:, None]).mean()
    assert after < before
