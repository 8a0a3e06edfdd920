"""The scVI network as a whole: its outputs, its edge cases, and its independence of company."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from models_store.cells import Posterior, select_cells

from .networks import ARCHITECTURES, N_GENES, cells, reference


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_terms_are_finite_and_their_gradient_is_that_of_training(name: str) -> None:
    network, them = reference(**ARCHITECTURES[name]), cells()
    if network.architecture.dispersion == "gene-label":
        # An unknown label reads the mean row, which lets no gradient through.
        them = dataclasses.replace(them, labels=them.labels % 4)
    noise = network.draw_noise(len(them.x), torch.Generator().manual_seed(0))
    terms = network.loss_terms(them, noise)
    for term in (terms.reconstruction, terms.kl_z, terms.kl_library):
        assert term.shape == (len(them.x),)
        assert torch.isfinite(term).all()
    parameters = [p for p in network.parameters() if p.numel()]
    exact = torch.autograd.grad(terms.loss(0.3 * network.kl_share), parameters, allow_unused=True)
    quick = torch.autograd.grad(
        network.training_loss(them, noise, 0.3), parameters, allow_unused=True
    )
    for a, b in zip(exact, quick, strict=True):
        a, b = (torch.zeros(1) if g is None else g for g in (a, b))
        assert float((a - b).abs().max()) <= 1e-4 * float(a.abs().max())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_projection_stands_for_the_counts(name: str) -> None:
    network, them = reference(**ARCHITECTURES[name]), cells()
    noise = network.draw_noise(len(them.x), torch.Generator().manual_seed(0))
    projection, index = network.project(them), torch.tensor([4, 0, 7])
    some = select_cells(them, index)
    with torch.no_grad():
        whole = network.loss_terms(them, noise)
        part = network.loss_terms(some, noise.rows(index), projection.rows(index))
    torch.testing.assert_close(part.reconstruction, whole.reconstruction[index])
    torch.testing.assert_close(part.kl_z, whole.kl_z[index])
    torch.testing.assert_close(part.kl_library, whole.kl_library[index])


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_a_cell_without_counts_gets_a_finite_latent(name: str) -> None:
    network, them = reference(**ARCHITECTURES[name]), cells()
    empty = dataclasses.replace(them, x=torch.zeros_like(them.x))
    noise = network.draw_noise(len(them.x), torch.Generator().manual_seed(0))
    latent = network.latent(network.posterior(network.project(empty), empty.codes))
    assert torch.isfinite(latent).all()
    assert torch.isfinite(network.project(empty).log_library).all()
    assert torch.isfinite(network.loss_terms(empty, noise).reconstruction).all()


@torch.no_grad()
def test_latent_of_ln_is_on_the_simplex_and_the_same_every_time() -> None:
    network, them = reference(latent_distribution="ln"), cells()
    posterior = network.posterior(network.project(them), them.codes)
    latent = network.latent(posterior)
    torch.testing.assert_close(latent.sum(1), torch.ones(len(latent)))
    assert torch.equal(latent, network.latent(posterior))
    alone = network.latent(Posterior(posterior.m[3:4], posterior.v[3:4]))
    assert torch.equal(alone, latent[3:4])


def test_draws_follow_the_seed_and_the_shape_of_the_network() -> None:
    network = reference(library="latent")
    first, second = (network.draw_noise(5, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first.z, second.z)
    assert first.z.shape == (5, 3)
    assert first.library is not None
    assert first.library.shape == (5, 1)
    assert reference().draw_noise(5, torch.Generator()).library is None


def test_kl_against_torch() -> None:
    torch.manual_seed(0)
    posterior = Posterior(torch.randn(6, 3), torch.rand(6, 3) + 0.1)
    q = torch.distributions.Normal(posterior.m, posterior.v.sqrt())
    mean, variance = torch.randn(6, 3), torch.rand(6, 3) + 0.1
    for ours, p in (
        (posterior.kl_standard(), torch.distributions.Normal(0.0, 1.0)),
        (posterior.kl(mean, variance), torch.distributions.Normal(mean, variance.sqrt())),
    ):
        torch.testing.assert_close(ours, torch.distributions.kl_divergence(q, p).sum(1))


@torch.no_grad()
def test_gene_label_dispersion_of_an_unknown_label_is_the_mean() -> None:
    network, them = reference(dispersion="gene-label"), cells()
    network.eval()
    noise = network.draw_noise(len(them.x), torch.Generator().manual_seed(0))
    unknown = dataclasses.replace(them, labels=torch.full((len(them.x),), 4))
    out = network.generate(unknown, network.project(unknown), noise).out
    mean = network.dispersion.reference.mean(0)
    assert torch.equal(out.log_theta, mean.expand(len(them.x), N_GENES))
    known = dataclasses.replace(them, labels=torch.full((len(them.x),), 2))
    out = network.generate(known, network.project(known), noise).out
    assert torch.equal(out.log_theta[0], network.dispersion.reference[2])


def test_unseen_covariates_change_no_latent() -> None:
    network, them = reference(encode_covariates=False), cells()
    other = dataclasses.replace(
        them, codes=tuple(torch.zeros_like(code) for code in them.codes), continuous=None
    )
    latents = [
        network.latent(network.posterior(network.project(c), c.codes)) for c in (them, other)
    ]
    assert torch.equal(*latents)


def test_categories_have_rows_wherever_they_enter() -> None:
    deep, shallow = reference(), reference(deeply_inject_covariates=False)
    assert len(deep.category_rows()) == 2 * 2 * 2  # networks x layers x covariates
    assert len(shallow.category_rows()) == 2 * 2
    assert all(isinstance(p, nn.Parameter) for p in deep.parameters())
