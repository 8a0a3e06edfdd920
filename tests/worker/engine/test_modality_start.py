"""MULTIVI and PEAKVI start at the averages of their cells; so cells meet however measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models_store.cells import Cells
from models_store.manifest import Architecture
from models_store.multivi import MULTIVI
from models_store.peakvi import PEAKVI
from worker.mixing import mixing
from worker.modality_start import start_at_averages
from worker.reference_training import OF_REGIONS, Optimiser, Schedule, train_reference

N_GENES, N_REGIONS, N_HELD_OUT = 60, 120, 100
GENES, REGIONS = slice(0, N_GENES), slice(N_GENES, N_GENES + N_REGIONS)


def counts(n: int) -> Tensor:
    """Of cells whose place along three directions moves genes and regions alike."""
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1.2, (n, 3))
    shares = np.exp(rng.normal(0, 1, N_GENES) + z @ rng.normal(0, 0.6, (3, N_GENES)))
    shares /= shares.sum(1, keepdims=True)
    genes = rng.poisson(800 * rng.lognormal(0, 0.3, (n, 1)) * shares)
    logits = -2.0 + rng.normal(0, 1, N_REGIONS) + z @ rng.normal(0, 0.8, (3, N_REGIONS))
    regions = rng.uniform(size=(n, N_REGIONS)) < 1 / (1 + np.exp(-logits))
    return torch.from_numpy(np.hstack([genes, regions]).astype(np.float32))


def network(**options: object) -> MULTIVI:
    torch.manual_seed(0)
    sizes = {"n_genes": N_GENES, "n_regions": N_REGIONS, "n_hidden": 32, "n_latent": 4}
    made = {**sizes, "dropout_rate": 0.1, "log_variational": False, **options}
    return MULTIVI(Architecture.model_validate(made), n_categories=(2,))


def seen(x: Tensor, way: slice) -> Tensor:
    """As measured for one modality."""
    only = torch.zeros_like(x)
    only[:, way] = x[:, way]
    return only


@torch.no_grad()
def latent(of: MULTIVI, x: Tensor) -> Tensor:
    cells = Cells(x, (torch.zeros(len(x), dtype=torch.long),))
    return of.posterior(of.project(cells), cells.codes).m


def nearer(one: Tensor, other: Tensor) -> float:
    """Mean share of cells that are nearer to a cell than it is to itself, measured another way."""
    apart = torch.cdist(one, other)
    return float((apart < apart.diagonal()[:, None]).float().mean())


@pytest.mark.slow
def test_genes_regions_and_both_of_a_cell_land_together() -> None:
    x, made = counts(500), network()
    held_out, training = x[:N_HELD_OUT], x[N_HELD_OUT:]
    cells = Cells(training, (torch.arange(len(training)) % 2,))
    train_reference(made, cells, None, Schedule(40, 0, optimiser=OF_REGIONS), lambda _share: None)
    ways = [latent(made, each) for each in (seen(held_out, GENES), seen(held_out, REGIONS))]
    both = latent(made, held_out)
    assert nearer(*ways) < 0.2
    assert max(nearer(way, both) for way in ways) < 0.08
    assert mixing(ways[0], ways[1]) > 0.8
    strangers = torch.randperm(N_HELD_OUT, generator=torch.Generator().manual_seed(0))
    assert nearer(ways[0], ways[1][strangers]) > 0.4


@pytest.mark.parametrize("given", [False, True])
@torch.no_grad()
def test_the_start_expects_the_average_cell(given: bool) -> None:
    x = counts(200)
    x[:20, GENES] = 0
    x[20:40, REGIONS] = 0
    factors = torch.stack([x[:, GENES].sum(-1), torch.full((200,), 0.6)], dim=1)
    options = {"library": "size_factor", "depth_factor": True} if given else {}
    made = network(**options).eval()
    cells = Cells(x, (torch.zeros(200, dtype=torch.long),), size_factor=factors)
    before = float(made.loss_terms(cells, made.draw_noise(200, torch.Generator())).elbo)
    start_at_averages(made, cells)
    after = float(made.loss_terms(cells, made.draw_noise(200, torch.Generator())).elbo)
    assert after > before + 100
    z = torch.zeros(1, 4)
    shares = made.gene_shares(z, (torch.zeros(1, dtype=torch.long),))[0]
    average = x[20:, GENES].sum(0) / x[20:, GENES].sum()
    assert torch.corrcoef(torch.stack([shares.log(), average.log()]))[0, 1] > 0.7
    found = made.accessibility(z, (torch.zeros(1, dtype=torch.long),))[0]
    assert torch.corrcoef(torch.stack([found, (x[40:, REGIONS] > 0).float().mean(0)]))[0, 1] > 0.7


@pytest.mark.parametrize("options", [{}, {"model_depth": False, "region_factors": False}])
def test_a_reference_of_regions_starts_at_the_average_cell(options: dict[str, bool]) -> None:
    x = counts(200)[:, REGIONS]
    torch.manual_seed(0)
    sizes = {"n_genes": 0, "n_regions": N_REGIONS, "n_hidden": 10, "n_latent": 3}
    a = Architecture.model_validate({**sizes, "log_variational": False, **options})
    made = PEAKVI(a, n_categories=(1,))
    cells = Cells(x, (torch.zeros(200, dtype=torch.long),))
    still = Optimiser(learning_rate=1e-12)
    train_reference(made, cells, None, Schedule(1, 0, optimiser=still), lambda _share: None)
    with torch.no_grad():
        found = made.accessibility(torch.zeros(1, 3), (torch.zeros(1, dtype=torch.long),))[0]
    seen = (x > 0).float().mean(0) * (4.0 if not options else 1.0)
    assert torch.corrcoef(torch.stack([found, seen.clamp(max=0.9)]))[0, 1] > 0.7


@torch.no_grad()
def test_cells_without_open_regions_leave_the_start_as_it_is() -> None:
    made = PEAKVI(Architecture(n_genes=0, n_regions=5, n_hidden=4, n_latent=2), n_categories=(1,))
    drawn = made.decoder.output.bias.clone()
    start_at_averages(made, Cells(torch.zeros(3, 5), (torch.zeros(3, dtype=torch.long),)))
    assert torch.equal(made.decoder.output.bias, drawn)


def test_the_penalty_is_in_full_once_a_reference_is_trained() -> None:
    x, made = counts(60), network()
    cells = Cells(x, (torch.arange(60) % 2,))
    train_reference(made, cells, None, Schedule(1, 0, optimiser=OF_REGIONS), lambda _share: None)
    with torch.no_grad():
        terms = made.loss_terms(cells, made.draw_noise(60, torch.Generator().manual_seed(0)))
    lone = terms.reconstruction + 0.1 * terms.kl_z
    assert float(terms.loss(0.1)) == pytest.approx(float((lone + terms.penalty).mean()), rel=1e-6)
