"""The part of scANVI that scVI has not: labels, in the loss, in surgery and in predictions."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

import models_store.scanvi
from models_store.cells import Cells
from models_store.scanvi import CLASSIFICATION_RATIO, MOST_ROWS, SCANVI, LabelledLossTerms
from models_store.surgery import graft, query_parameters

from .networks import ARCHITECTURES, N_LABELS, cells, reference

LABELLED = [name for name, options in ARCHITECTURES.items() if options.get("kind") is SCANVI]


def scanvi(name: str = "SCANVI") -> SCANVI:
    network = reference(**ARCHITECTURES[name])
    assert isinstance(network, SCANVI)
    return network


def terms_of(network: SCANVI, them: Cells) -> LabelledLossTerms:
    noise = network.draw_noise(len(them.x), torch.Generator().manual_seed(0))
    terms = network.loss_terms(them, noise)
    assert isinstance(terms, LabelledLossTerms)
    return terms


def with_labels(them: Cells, labels: list[int]) -> Cells:
    return dataclasses.replace(them, labels=torch.tensor(labels))


@pytest.mark.parametrize("name", LABELLED)
@torch.no_grad()
def test_labels_add_what_a_loop_over_them_adds(name: str) -> None:
    """One label at a time, through torch's own distributions."""
    network, n = scanvi(name), 6
    z1, noise = torch.randn(n, 3), torch.randn(N_LABELS, n, 3)
    terms = network.label_terms(z1, noise)
    p = Categorical(logits=network.classifier(z1))
    surprise, kl = torch.zeros(n), kl_divergence(p, Categorical(probs=network.y_prior))
    for k in range(N_LABELS):
        code = (torch.full((n,), k),)
        q = network.encoder_z2_z1(network.encoder_z2_z1.layers.project(z1), code)
        z2 = q.m + q.v.sqrt() * noise[k]
        back = network.decoder_z1_z2(z2, code)
        surprise -= p.probs[:, k] * Normal(back.m, back.v.sqrt()).log_prob(z1).sum(1)
        kl += p.probs[:, k] * kl_divergence(Normal(q.m, q.v.sqrt()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(terms.surprise, surprise)
    torch.testing.assert_close(terms.kl, kl)


def rows_scored(network: SCANVI) -> list[int]:
    """The list into which the rows of every pass through the encoder of z2 are written."""
    rows: list[int] = []
    network.encoder_z2_z1.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    return rows


def test_many_labels_are_scored_in_blocks_of_bounded_size() -> None:
    network = SCANVI(reference().architecture, n_categories=(2,), n_labels=300).eval()
    rows, n = rows_scored(network), 250
    noise = network.draw_noise(n, torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.label_terms(noise.z, noise.z2)
    network.label_gradients(noise.z, noise.z, noise, None, 1.0)
    assert max(rows) <= MOST_ROWS
    assert sum(rows) == 2 * 300 * n


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("most", [1, 9, 20])
def test_blocks_give_what_all_cells_at_once_give(
    name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores, and their gradients by z1 and by every weight, for which nothing is kept."""
    network, n = scanvi(name).double(), 11
    weights = [w for w in network.parameters() if w.numel()]
    noise = torch.randn(N_LABELS, n, 3, dtype=torch.float64)
    found = []
    rows = rows_scored(network)
    for limit in (MOST_ROWS, most):
        monkeypatch.setattr(models_store.scanvi, "MOST_ROWS", limit)
        z1 = torch.linspace(-2, 2, 3 * n, dtype=torch.float64).view(n, 3).requires_grad_()
        terms = network.label_terms(z1, noise)
        whole = (terms.surprise + 0.3 * terms.kl).sum()
        gradients = torch.autograd.grad(whole, [z1, *weights], allow_unused=True)
        found.append((terms.surprise, terms.kl, *gradients))
    assert rows[0] == N_LABELS * n
    assert max(rows[1:]) <= max(most, N_LABELS)
    assert sum(rows[1:]) == 2 * N_LABELS * n  # each block again on the way back
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-12)


def test_dropout_of_a_block_is_the_same_on_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """In training: the gradient is that of the scores which were given."""
    network = scanvi().double().train()
    noise, z1 = torch.randn(N_LABELS, 5, 3).double(), torch.randn(5, 3).double()
    monkeypatch.setattr(models_store.scanvi, "MOST_ROWS", N_LABELS)

    def score(z1: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return network.label_terms(z1, noise).surprise

    assert torch.autograd.gradcheck(score, (z1.requires_grad_(),))


def test_batch_norm_in_training_sees_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    network, n = scanvi("SCANVI, batch norm, latent library").train(), 6
    monkeypatch.setattr(models_store.scanvi, "MOST_ROWS", N_LABELS)
    rows = rows_scored(network)
    network.label_terms(torch.randn(n, 3), torch.randn(N_LABELS, n, 3))
    assert rows == [N_LABELS * n]


@torch.no_grad()
def test_cells_without_a_label_have_no_cross_entropy() -> None:
    network, them = scanvi(), cells(4)
    nobody = terms_of(network, with_labels(them, [N_LABELS] * 4))
    absent = terms_of(network, dataclasses.replace(them, labels=None))
    assert float(nobody.classification) == float(absent.classification) == 0
    some = terms_of(network, with_labels(them, [N_LABELS, 2, N_LABELS, 0]))
    m = network.posterior(network.project(them), them.codes).m
    log_p = network.label_probabilities(m).log()
    torch.testing.assert_close(some.classification, -(log_p[1, 2] + log_p[3, 0]) / 2)
    added = some.loss(0.3) - nobody.loss(0.3)
    torch.testing.assert_close(added, CLASSIFICATION_RATIO * some.classification)
    torch.testing.assert_close(some.elbo, nobody.elbo)


@torch.no_grad()
def test_labelled_cells_may_be_others_than_those_of_the_minibatch() -> None:
    network, them, others = scanvi(), cells(5), cells(7, seed=9)
    noise = network.draw_noise(5, torch.Generator().manual_seed(0))
    without = dataclasses.replace(them, labels=None)
    expected = network.classification(
        network.posterior(network.project(others), others.codes).m, others.labels
    )
    difference = network.training_loss(them, noise, 1.0, labelled=others) - network.training_loss(
        without, noise, 1.0
    )
    torch.testing.assert_close(difference, CLASSIFICATION_RATIO * expected)


@torch.no_grad()
def test_the_kl_of_a_latent_library_is_weighted_like_the_others() -> None:
    them = cells(4)
    terms = terms_of(scanvi("SCANVI, batch norm, latent library"), them)
    assert bool((terms.kl_library > 0).all())
    change = terms.loss(1.0) - terms.loss(0.0)
    torch.testing.assert_close(change, (terms.kl_z + terms.kl_library).mean())


@torch.no_grad()
def test_probabilities_are_a_distribution_over_the_labels() -> None:
    network, them = scanvi(), cells()
    m = network.posterior(network.project(them), them.codes).m
    p = network.label_probabilities(m)
    assert p.shape == (len(them.x), N_LABELS)
    torch.testing.assert_close(p.sum(1), torch.ones(len(p)))
    assert network.label_probabilities(m[:0]).shape == (0, N_LABELS)


@pytest.mark.parametrize("name", LABELLED)
def test_surgery_extends_no_table_of_labels(name: str) -> None:
    network = scanvi(name)
    grafted = graft(network, (2, 1))
    trains = query_parameters(grafted)
    assert trains
    for path in trains:
        assert path.split(".")[0] in {"z_encoder", "library_encoder", "decoder", "dispersion"}
    for part in ("classifier", "encoder_z2_z1", "decoder_z1_z2"):
        own = dict(getattr(grafted, part).named_parameters())
        shared = dict(getattr(network, part).named_parameters())
        assert all(own[path] is shared[path] for path in shared)
    assert grafted.y_prior is network.y_prior


def test_a_reference_of_one_label_is_sure_of_it() -> None:
    network = SCANVI(reference().architecture, n_categories=(2,), n_labels=1).eval()
    them = Cells(cells().x, (torch.zeros(12, dtype=torch.int64),))
    noise = network.draw_noise(12, torch.Generator().manual_seed(0))
    assert torch.isfinite(network.loss_terms(them, noise).loss(1.0))
    m = network.posterior(network.project(them), them.codes).m
    assert torch.equal(network.label_probabilities(m), torch.ones(12, 1))
