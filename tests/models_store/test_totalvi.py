"""What totalVI has that scVI has not: proteins, in the loss, in surgery and in what it gives."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch.distributions import Bernoulli, LogNormal, NegativeBinomial, Normal, kl_divergence

from models_store.encoding import encode, project_block
from models_store.surgery import graft, query_parameters
from models_store.totalvi import TOTALVI

from .total_networks import (
    N_GENES,
    N_PROTEINS,
    TOTAL_ARCHITECTURES,
    total_cells,
    total_reference,
)

every_architecture = pytest.mark.parametrize("name", TOTAL_ARCHITECTURES)


@torch.no_grad()
def test_proteins_add_what_torchs_own_distributions_add() -> None:
    network, them = total_reference(), total_cells()
    noise = network.draw_noise(len(them.x), torch.Generator().manual_seed(0))
    terms = network.loss_terms(them, noise)
    z = network.sample(network.posterior(network.project(them), them.codes), noise.z)
    out, tables = network.decode(z, them.codes, them.continuous).proteins, network.proteins
    background = Normal(out.mean, torch.nn.functional.softplus(out.sd))
    f = tables.log_efficiency.exp()[them.codes[0]]
    back = f * (background.loc + background.scale * noise.background).exp()
    fore = back * (1 + torch.relu(out.foreground))
    theta, y = tables.dispersion.reference[0].exp(), them.x[:, N_GENES:]
    log_p = [
        NegativeBinomial(theta.expand_as(mu), logits=(mu / theta).log()).log_prob(y)
        for mu in (back, fore)
    ]
    share = torch.sigmoid(out.mixing)
    mixed = (share * log_p[0].exp() + (1 - share) * log_p[1].exp()).log()
    assert them.measured is not None
    assert 0 < them.measured.float().mean() < 1
    torch.testing.assert_close(
        terms.proteins, -(mixed * them.measured).sum(1), rtol=1e-4, atol=1e-4
    )
    prior = Normal(
        tables.background_mean.reference[them.codes[0]],
        tables.background_log_sd.reference[them.codes[0]].exp(),
    )
    kl = (kl_divergence(background, prior) * them.measured).sum(1)
    kl -= LogNormal(0.0, 1.0).log_prob(f).sum(1)
    kl -= 1e-3 * Bernoulli(logits=out.mixing).log_prob(torch.tensor(1.0)).sum(1)
    torch.testing.assert_close(terms.kl_background, kl, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_kl_weight_weighs_the_proteins_since_1_3_1_alone() -> None:
    for since in (True, False):
        network, them = total_reference(protein_efficiency=since), total_cells()
        terms = network.loss_terms(them, network.draw_noise(12, torch.Generator().manual_seed(0)))
        assert terms.weighted == since
        changed = dataclasses.replace(terms, proteins=terms.proteins + 1)
        grown = float(changed.loss(0.25) - terms.loss(0.25))
        assert grown == pytest.approx(0.25 if since else 1.0, abs=1e-4)
        assert float(terms.elbo) == pytest.approx(-float(terms.loss(1.0)))


@every_architecture
@torch.no_grad()
def test_proteins_that_a_batch_lacks_change_nothing_but_the_encoding(name: str) -> None:
    network, them = total_reference(**TOTAL_ARCHITECTURES[name]), total_cells()
    noise = network.draw_noise(len(them.x), torch.Generator().manual_seed(0))
    projection = network.project(them)
    before = network.loss_terms(them, noise, projection)
    lacking = them.codes[0] == 1
    assert bool(lacking.any())
    x = them.x.clone()
    x[lacking, -2:] = 7
    after = network.loss_terms(dataclasses.replace(them, x=x), noise, projection)
    assert torch.equal(before.proteins, after.proteins)
    assert torch.equal(before.kl_background, after.kl_background)


@every_architecture
def test_training_leaves_the_reference_as_it_was(name: str) -> None:
    network, them = total_reference(**TOTAL_ARCHITECTURES[name]), total_cells()
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        seen = network.posterior(network.project(them), them.codes)
    grafted = graft(network, (2, 1))
    optimiser = torch.optim.Adam(grafted.parameters(), lr=0.05, weight_decay=0.1)
    of_query = total_cells(30, n_categories=(5, 3))
    start = {path: rows.detach().clone() for path, rows in query_parameters(grafted).items()}
    for seed in range(2):
        noise = grafted.draw_noise(30, torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        grafted.training_loss(of_query, noise, 1.0).backward()
        optimiser.step()
    for path, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[path]), path
    with torch.no_grad():
        again = grafted.posterior(grafted.project(them), them.codes)
    assert torch.equal(seen.m, again.m)
    assert torch.equal(seen.v, again.v)
    for path, rows in query_parameters(grafted).items():
        assert not torch.equal(rows, start[path]), path


def test_surgery_gives_a_new_batch_the_mean_background_and_an_efficiency_of_one() -> None:
    for n_panels in (0, 2):
        network = total_reference(n_panels=n_panels)
        grafted = graft(network, (2, 0))
        assert isinstance(grafted, TOTALVI)
        mean = network.proteins.background_mean.reference.mean(0)
        assert torch.equal(grafted.proteins.background_mean.query, mean.expand(2, -1))
        efficiency = grafted.proteins.efficiency(torch.tensor([0, 3, 4]))
        assert efficiency is not None
        assert torch.equal(efficiency[0], network.proteins.log_efficiency[0])
        assert not efficiency[1:].any()
        alone = grafted.proteins.efficiency(4)
        assert alone is not None
        assert torch.equal(alone, efficiency[2])


@torch.no_grad()
def test_a_new_batch_is_its_own_panel() -> None:
    grafted = graft(total_reference(n_panels=2), (2, 0))
    assert isinstance(grafted, TOTALVI)
    table = grafted.proteins.background_mean
    table.query += torch.tensor([[1.0], [2.0]])
    them = dataclasses.replace(total_cells(4), measured=None)
    codes = (torch.tensor([0, 3, 4, 1]), them.codes[1])
    noise = torch.zeros(4, N_PROTEINS)
    them = dataclasses.replace(them, codes=codes)
    given = grafted.proteins.counts(noise, them, noise)
    unknown = table.reference.mean(0)
    assert torch.equal(given.prior_mean[[0, 3]], unknown.expand(2, -1))
    assert torch.equal(given.prior_mean[1:3], table.query)
    told = dataclasses.replace(them, panel=torch.tensor([1, 2, 3, 0]))
    given = grafted.proteins.counts(noise, told, noise)
    assert torch.equal(given.prior_mean[[0, 3]], table.reference[[1, 0]])
    one = dataclasses.replace(them, codes=(4, codes[1]))
    assert torch.equal(grafted.proteins.counts(noise, one, noise).prior_mean, table.query[1])


@every_architecture
@torch.no_grad()
def test_a_latent_is_the_same_bytes_alone(name: str) -> None:
    network, them = total_reference(**TOTAL_ARCHITECTURES[name]), total_cells(40)
    whole = encode(network, project_block(network, them), them.codes, most_draws=5)
    for row in (0, 7, 39):
        index = torch.tensor([row])
        one = dataclasses.replace(
            them,
            x=them.x[index],
            codes=tuple(torch.as_tensor(code)[index] for code in them.codes),
            continuous=None if them.continuous is None else them.continuous[index],
            size_factor=None if them.size_factor is None else them.size_factor[index],
            measured=None,
        )
        alone = encode(network, project_block(network, one), one.codes, most_draws=5)
        assert torch.equal(alone.mean[0], whole.mean[row])
        assert torch.equal(alone.variance[0], whole.variance[row])


@every_architecture
@torch.no_grad()
def test_what_it_gives_beyond_the_latent(name: str) -> None:
    network = total_reference(**TOTAL_ARCHITECTURES[name])
    z, codes = torch.randn(6, 3), (torch.zeros(6).long(), torch.ones(6).long())
    if network.architecture.latent_distribution == "ln":
        z = torch.softmax(z, dim=-1)
    shares = network.expected_shares(z, codes)
    assert shares.shape == (6, N_GENES + N_PROTEINS)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert bool((shares > 0).all())
    them = dataclasses.replace(total_cells(6), codes=codes, continuous=torch.zeros(6, 1))
    if network.architecture.library != "size_factor":
        scale = network.decoded("normalised_expression", z, them)
        torch.testing.assert_close(scale.sum(1), torch.ones(6))
    found = network.protein_foreground(z, codes)
    assert torch.equal(network.decoded("protein_foreground", z, them), found.expression)
    assert torch.equal(network.decoded("protein_probability", z, them), found.probability)
    assert bool(((found.probability > 0) & (found.probability < 1)).all())
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(4000, 6, N_PROTEINS, generator=generator)
    mean = sum(network.protein_foreground(z, codes, noise=each).expression for each in draws) / 4000
    torch.testing.assert_close(torch.as_tensor(mean), found.expression, rtol=0.2, atol=0.0)


@torch.no_grad()
def test_counts_are_scaled_by_the_mean_of_their_own_kind() -> None:
    network, them = total_reference(), total_cells()
    doubled = them.x.clone()
    doubled[:, N_GENES:] *= 2
    both = [network.project(dataclasses.replace(them, x=x)) for x in (them.x, doubled)]
    assert torch.equal(both[0].log_library, both[1].log_library)
    genes, proteins = network.split(them.x)
    scaled = [part / (1 + part.mean(1, keepdim=True)) for part in (genes, proteins)]
    assert them.continuous is not None
    seen = torch.cat([*(part.log1p() for part in scaled), them.continuous], dim=1)
    torch.testing.assert_close(both[0].z, network.z_encoder.layers.project(seen))
    old = total_reference(protein_efficiency=False)
    plain = torch.cat([them.x.log1p(), them.continuous], dim=1)
    torch.testing.assert_close(old.project(them).z, old.z_encoder.layers.project(plain))
    torch.testing.assert_close(old.project(them, them.x.log1p()).z, old.project(them).z)
    raw = total_reference(protein_efficiency=False, log_variational=False)
    plain = torch.cat([them.x, them.continuous], dim=1)
    for log_x in (None, them.x.log1p()):
        found = raw.project(them, log_x).z
        torch.testing.assert_close(found, raw.z_encoder.layers.project(plain))
