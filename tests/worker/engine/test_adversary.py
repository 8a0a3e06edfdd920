"""Batches that lack proteins: who is pressed to hide them, and where backgrounds start."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.functional import cross_entropy

from models_store.cells import Cells
from models_store.manifest import Architecture
from models_store.protein_panels import with_measured
from models_store.totalvi import TOTALVI
from worker.adversary import Adversary
from worker.protein_background import UNKNOWN, lower_normals, start_backgrounds
from worker.reference_training import Schedule, train_reference

N_GENES, N_PROTEINS = 20, 12


def network(n_batches: int = 2) -> TOTALVI:
    torch.manual_seed(0)
    architecture = Architecture(
        n_genes=N_GENES, n_proteins=N_PROTEINS, n_hidden=16, n_latent=3, n_layers_decoder=1
    )
    return TOTALVI(architecture, n_categories=(n_batches,))


def cells(n: int = 200, *, missing: int = 0, background: float = 5.0) -> Cells:
    """Two batches, the second without some proteins; each protein is in about a third of cells."""
    generator = torch.Generator().manual_seed(1)
    x = torch.poisson(torch.full((n, N_GENES), 4.0), generator=generator)
    fore = torch.rand(n, N_PROTEINS, generator=generator) < 0.33
    y = torch.poisson(background * torch.where(fore, 30.0, 1.0), generator=generator)
    batch = torch.arange(n) % 2
    y[batch == 1, :missing] = 0
    return with_measured(Cells(torch.cat([x, y], 1), (batch,)), N_PROTEINS)


def test_only_missing_proteins_of_several_batches_ask_for_an_adversary() -> None:
    assert Adversary.where_needed(network(), cells()) is None
    assert Adversary.where_needed(network(), cells(missing=3)) is not None
    lone = dataclasses.replace(cells(missing=3), codes=(0,))
    assert Adversary.where_needed(network(1), lone) is None


def test_the_network_pays_for_what_the_classifier_knows() -> None:
    cvae, them = network().eval(), cells(missing=N_PROTEINS)
    adversary = Adversary(cvae)
    noise, projection = cvae.draw_noise(200, torch.Generator().manual_seed(0)), cvae.project(them)
    adversary.classifier.eval()
    for group in adversary.optimiser.param_groups:
        group["lr"] = 0.0
    found = adversary.pressure(them, projection, noise, 0.7)
    z = cvae.sample(cvae.posterior(projection, them.codes), noise.z)
    # With two batches, the classifier is to take each cell for one of the other.
    wanted = 0.7 * cross_entropy(adversary.classifier(z), 1 - them.codes[0])
    torch.testing.assert_close(found, wanted)
    found.backward()
    assert cvae.z_encoder.mean.weight.grad is not None


def test_the_classifier_learns_at_every_step() -> None:
    adversary, batch = Adversary(network()), torch.arange(100) % 2
    z = torch.randn(100, 3) + 3 * batch[:, None]
    first = float(cross_entropy(adversary.classifier(z), batch).detach())
    for _ in range(60):
        adversary._learn(z, batch, 1.0)
    assert float(cross_entropy(adversary.classifier(z), batch).detach()) < 0.8 * first


def test_without_weight_nothing_is_pressed() -> None:
    cvae, them = network(), cells(missing=3)
    noise = cvae.draw_noise(len(them.x), torch.Generator().manual_seed(0))
    pressure = Adversary(cvae).pressure(them, cvae.project(them), noise, 0.0)
    assert float(pressure.detach()) == 0.0


def test_a_background_starts_at_the_lower_population() -> None:
    cvae = network()
    start_backgrounds(cvae, cells(background=5.0), seed=0)
    mean = cvae.proteins.background_mean.reference
    assert torch.equal(mean, mean[:, :1].expand_as(mean))
    assert mean[:, 0].tolist() == pytest.approx([1.7, 1.7], abs=0.3)  # log(1 + 5) is 1.79
    again = network()
    start_backgrounds(again, cells(background=5.0), seed=0)
    assert torch.equal(again.proteins.background_mean.reference, mean)
    assert bool((cvae.proteins.background_log_sd.reference < -2).all())


def test_a_batch_with_few_proteins_has_an_unknown_background() -> None:
    cvae = network()
    start_backgrounds(cvae, cells(missing=9), seed=0)
    tables = cvae.proteins
    assert float(tables.background_mean.reference[1, 0].detach()) == UNKNOWN[0]
    assert float(tables.background_log_sd.reference[1, 0].detach().exp()) == pytest.approx(0.05)


def test_two_normals_are_told_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    low, high = (
        mean + sd * torch.randn(3, 4000, generator=generator).double()
        for mean, sd in ((1.0, 0.3), (4.0, 0.6))
    )
    mean, variance = lower_normals(torch.cat([low, high[:, :2000]], 1))
    assert mean.tolist() == pytest.approx([1.0] * 3, abs=0.03)
    assert variance.sqrt().tolist() == pytest.approx([0.3] * 3, abs=0.03)
    flat = lower_normals(torch.zeros(1, 6).double())
    assert float(flat[0]) == 0.0


def test_training_raises_the_elbo_and_repeats_itself() -> None:
    them = cells(missing=3)
    held_out = cells(60, missing=3)
    found = []
    for epochs in (1, 8, 8):
        cvae = network()
        trained = train_reference(cvae, them, held_out, Schedule(epochs, 0), lambda _: None)
        assert trained.held_out_elbo is not None
        found.append((trained.held_out_elbo, cvae.state_dict()))
    assert found[1][0] > found[0][0] + 1
    assert all(torch.equal(t, found[2][1][name]) for name, t in found[1][1].items())
    # The depth of a cell is of its genes alone.
    assert float(cvae.library_prior[0, 0].exp()) == pytest.approx(4.0 * N_GENES, rel=0.1)
