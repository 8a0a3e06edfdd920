"""Surgery: the reference is shared and cannot move; only new rows learn, from where they should."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models_store.cells import Cells
from models_store.layers import ConditionalLinear
from models_store.scvi import SCVI
from models_store.surgery import (
    LIBRARY_PRIOR,
    LONE_CATEGORY_SPREAD,
    graft,
    join_query_weights,
    load_query_weights,
    penalised_rows,
    query_parameters,
    query_weights,
)

from .networks import ARCHITECTURES, cells, reference

N_NEW = (2, 1)
ALL = (5, 3)
"""Categories after surgery of the batch and of the extra covariate."""


def _query_cells(n: int = 24) -> Cells:
    return cells(n, n_categories=ALL)


def _train(grafted: SCVI, *, weight_decay: float, steps: int = 3) -> None:
    them = _query_cells()
    optimiser = torch.optim.Adam(
        grafted.parameters(), lr=0.05, weight_decay=weight_decay
    )  # all of them, as a careless caller might
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        optimiser.zero_grad()
        noise = grafted.draw_noise(len(them.x), generator)
        grafted.training_loss(them, noise, 1.0).backward()
        optimiser.step()


def _posteriors(network: SCVI, them: Cells) -> torch.Tensor:
    with torch.no_grad():
        posterior = network.posterior(network.project(them), them.codes)
    return torch.cat([posterior.m, posterior.v])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_tensor_of_the_reference_is_shared(name: str) -> None:
    network = reference(**ARCHITECTURES[name])
    grafted = graft(network, N_NEW)
    own = dict(grafted.named_parameters()) | dict(grafted.named_buffers())
    shared = dict(network.named_parameters()) | dict(network.named_buffers())
    assert own.keys() == shared.keys()
    for path, tensor in shared.items():
        if not path.endswith("query") and path != LIBRARY_PRIOR:
            assert own[path] is tensor, path
    for path in query_parameters(grafted):
        assert own[path] is not shared[path]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_training_with_weight_decay_leaves_the_reference_bit_equal(name: str) -> None:
    network = reference(**ARCHITECTURES[name])
    before = copy.deepcopy(network.state_dict())
    seen, them = _posteriors(network, cells()), cells()
    grafted = graft(network, N_NEW)
    start = {path: p.detach().clone() for path, p in query_parameters(grafted).items()}
    _train(grafted, weight_decay=0.1)
    for path, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[path]), path
    # Reference cells through the grafted network, whose query rows went elsewhere.
    assert torch.equal(_posteriors(grafted, them), seen)
    for path, parameter in query_parameters(grafted).items():
        assert not torch.equal(parameter, start[path]), path


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_only_query_rows_require_gradients(name: str) -> None:
    grafted = graft(reference(**ARCHITECTURES[name]), N_NEW)
    assert not grafted.training
    trains = {path for path, p in grafted.named_parameters() if p.requires_grad and p.numel()}
    assert trains == set(query_parameters(grafted))
    assert all(path.endswith(".query") for path in trains)
    assert ("dispersion.query" in trains) == (name == "gene-batch")
    assert any(path.startswith("z_encoder") for path in trains) == (
        "expression alone encoded" not in name
    )


def test_new_rows_start_at_the_mean() -> None:
    network = reference(dispersion="gene-batch", library="latent")
    network.library_prior = torch.randn(3, 2)
    grafted = graft(network, N_NEW)
    for table in grafted.category_rows().values():
        assert torch.equal(table.query, table.mean_reference.expand_as(table.query))
    mean = network.dispersion.reference.mean(0)
    assert torch.equal(grafted.dispersion.query, mean.expand(2, -1))
    assert torch.equal(grafted.library_prior[:3], network.library_prior)
    assert torch.equal(grafted.library_prior[3:], network.library_prior.mean(0).expand(2, -1))
    assert [len(table.query) for table in grafted.category_rows().values()][:2] == list(N_NEW)


def test_grafts_of_one_reference_are_independent() -> None:
    network = reference()
    first, second = graft(network, N_NEW), graft(network, (4, 0))
    _train(first, weight_decay=0.0)
    for table in second.category_rows().values():
        assert torch.equal(table.query, table.mean_reference.expand_as(table.query))
    assert all(not table.query.numel() for table in network.category_rows().values())


def test_random_start_has_the_fan_in_of_the_enlarged_layer() -> None:
    network = reference(n_categories=(1, 3))
    grafted = graft(network, (400, 300), random=torch.Generator().manual_seed(0))
    linears = [m for m in grafted.modules() if isinstance(m, ConditionalLinear)]
    assert len(linears) == 4
    for linear in linears:
        # A lone category has no column in scvi-tools until a second one joins it.
        bound = (linear.W_x.shape[0] + 401 + 303) ** -0.5
        for table in linear.covariate_rows():
            draws = table.query.detach()
            assert 0.98 * bound < float(draws.abs().max()) <= bound
            assert abs(float(draws.mean())) < 0.1 * bound
    again = graft(network, (400, 300), random=torch.Generator().manual_seed(0))
    for path, parameter in query_parameters(again).items():
        assert torch.equal(parameter, query_parameters(grafted)[path])


def test_a_covariate_that_stays_alone_adds_nothing_to_the_fan_in() -> None:
    network = reference(n_categories=(1, 1), n_hidden=400)
    grafted = graft(network, (3, 0), random=torch.Generator().manual_seed(0))
    first = grafted.decoder.layers.linears[0]
    batch, lone = first.covariate_rows()
    bound = (first.W_x.shape[0] + 4) ** -0.5
    assert 0.98 * bound < float(batch.query.detach().abs().max()) <= bound
    assert lone.query.shape == (0, 400)


def test_a_lone_reference_batch_keeps_its_zero_row() -> None:
    network = reference(n_categories=(1, 2))
    seen = _posteriors(network, cells(n_categories=(1, 2)))
    grafted = graft(network, N_NEW)
    for path, table in grafted.category_rows().items():
        if path.endswith("covariates.0"):
            assert not table.query.any()
    them = cells(24, n_categories=(3, 3))
    generator = torch.Generator().manual_seed(0)
    loss = grafted.training_loss(them, grafted.draw_noise(24, generator), 1.0)
    loss.backward()
    for path, table in grafted.category_rows().items():
        assert table.query.grad is not None
        with torch.no_grad():
            table.query += 10
        if path.endswith("covariates.0"):
            assert table.reference.shape[0] == 1
            assert not table.reference.any()
    assert torch.equal(_posteriors(grafted, cells(n_categories=(1, 2))), seen)


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2**31))
@settings(deadline=None, max_examples=15)
def test_query_weights_round_trip(n_batches: int, n_extra: int, seed: int) -> None:
    network = reference(library="latent", dispersion="gene-batch")
    torch.manual_seed(seed)
    grafted, fresh = (graft(network, (n_batches, n_extra)) for _ in range(2))
    for parameter in query_parameters(grafted).values():
        parameter.data.normal_()
    grafted.library_prior[3:] = torch.rand(n_batches, 2)
    weights = query_weights(grafted)
    load_query_weights(fresh, weights)
    assert query_weights(fresh).keys() == weights.keys()
    for name, stored in query_weights(fresh).items():
        assert torch.equal(stored, weights[name])
    for own, other in zip(fresh.parameters(), grafted.parameters(), strict=True):
        assert torch.equal(own, other)
    assert torch.equal(fresh.library_prior, grafted.library_prior)
    assert len(network.library_prior) == 3


def test_stored_weights_are_copies() -> None:
    grafted = graft(reference(library="latent"), N_NEW)
    weights = query_weights(grafted)
    kept = {name: tensor.clone() for name, tensor in weights.items()}
    _train(grafted, weight_decay=0.0)
    grafted.library_prior += 1
    assert all(torch.equal(weights[name], kept[name]) for name in kept)
    assert not any(tensor.requires_grad for tensor in weights.values())


def test_weights_of_another_surgery_are_refused() -> None:
    network = reference()
    weights = query_weights(graft(network, N_NEW))
    for wrong in (
        query_weights(graft(network, (1, 1))),
        dict(list(weights.items())[1:]),
        weights | {"z_encoder.layers.linears.0.W_x": torch.zeros(2, 2)},
    ):
        target = graft(network, N_NEW)
        with pytest.raises(ValueError, match="do not fit"):
            load_query_weights(target, wrong)


def test_batches_fitted_alone_join_into_one_graft() -> None:
    network = reference(library="latent")
    alone = [graft(network, (1, 0)) for _ in range(3)]
    for seed, each in enumerate(alone):
        torch.manual_seed(seed)
        for parameter in query_parameters(each).values():
            parameter.data.normal_()
        each.library_prior[3:] = torch.rand(1, 2)
    joined = graft(network, (3, 0))
    load_query_weights(joined, join_query_weights([query_weights(each) for each in alone]))
    them = cells(30, n_categories=(6, 2))
    together = _posteriors(joined, them)
    for i, each in enumerate(alone):
        mine = them.codes[0] == 3 + i
        batch = torch.where(
            mine, torch.full_like(them.codes[0], 3), torch.zeros_like(them.codes[0])
        )
        cells_alone = Cells(them.x, (batch, them.codes[1]), continuous=them.continuous)
        rows = mine.repeat(2)
        assert mine.any()
        torch.testing.assert_close(_posteriors(each, cells_alone)[rows], together[rows])


def test_penalised_rows_are_all_that_trains_with_its_prior() -> None:
    grafted = graft(reference(dispersion="gene-batch", n_categories=(3, 1)), N_NEW)
    penalised = list(penalised_rows(grafted))
    assert {id(rows) for rows, _, _ in penalised} == {
        id(p) for p in query_parameters(grafted).values()
    }
    tables = {id(table.query): table for table in grafted.category_rows().values()}
    for rows, mean, spread in penalised:
        assert torch.equal(mean.expand_as(rows), rows)  # untrained: penalty zero
        if id(rows) not in tables:
            known = grafted.dispersion.reference
            assert spread == pytest.approx(float((known - known.mean(0)).square().mean().sqrt()))
        elif len(tables[id(rows)].reference) == 1:
            assert spread == LONE_CATEGORY_SPREAD
            assert not mean.any()
        else:
            assert spread == tables[id(rows)].spread > 0


def test_nothing_is_penalised_where_nothing_is_new() -> None:
    grafted = graft(reference(dispersion="gene-batch"), (0, 0))
    assert not list(penalised_rows(grafted))
    assert not query_parameters(grafted)
    assert query_weights(grafted) == {}
