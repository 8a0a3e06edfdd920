"""Counts that are kept without their zeros mean what dense ones mean."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from models_store.cells import Cells, with_dense_counts
from models_store.cvae import CVAE
from models_store.kinds import NETWORKS, step_gradients
from models_store.manifest import Architecture, Kind
from models_store.sparse_counts import (
    columns,
    dense,
    is_sparse,
    occupied,
    product,
    row_sums,
    scipy_counts,
    sparse_counts,
    take_rows,
)
from models_store.surgery import graft

N, R = 40, 60


def counts(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.poisson(torch.full((N, R), 0.2), generator=generator)
    x[7] = 0
    return x


def kept(x: Tensor) -> Tensor:
    return sparse_counts(sp.csr_matrix(x.numpy()))


@pytest.mark.parametrize("rows", [torch.tensor([5, 7, 7, 0]), slice(3, 9), slice(4, 4)])
def test_chosen_cells_are_those_cells(rows: Tensor | slice) -> None:
    x = counts()
    found = take_rows(kept(x), rows)
    assert is_sparse(found)
    assert torch.equal(dense(found), x[rows])


def test_columns_sums_and_occupied_cells() -> None:
    x = counts()
    assert torch.equal(dense(columns(kept(x), 10, 25)), x[:, 10:25])
    assert torch.equal(row_sums(kept(x)), x.sum(-1))
    assert torch.equal(occupied(kept(x)), occupied(x))
    assert 7 not in occupied(x)
    assert np.array_equal(scipy_counts(kept(x)).toarray(), scipy_counts(x).toarray())


def test_a_zero_that_is_written_out_is_no_count() -> None:
    rows = sp.csr_matrix(counts().numpy())
    rows.data[::2] = 0
    assert len(sparse_counts(rows).values()) == np.count_nonzero(rows.data)
    assert not np.all(rows.data)  # whoever gave them keeps theirs


def test_the_product_and_its_gradient() -> None:
    x, weight = counts(), torch.randn(R, 5, requires_grad=True)
    expected = torch.autograd.grad((x @ weight).sin().sum(), weight)[0]
    found = torch.autograd.grad(product(kept(x), weight).sin().sum(), weight)[0]
    assert torch.allclose(product(kept(x), weight), x @ weight, atol=1e-5)
    assert torch.allclose(found, expected, atol=1e-5)


def _network(kind: Kind) -> CVAE:
    torch.manual_seed(0)
    sizes = {"n_genes": 0, "n_regions": R} if kind in ("peakvi", "poissonvi") else {"n_genes": R}
    if kind == "multivi":
        sizes = {"n_genes": R // 2, "n_regions": R // 2}
    likelihood = "poisson" if kind == "poissonvi" else "nb"
    a = Architecture(n_hidden=8, n_latent=3, likelihood=likelihood, **sizes)  # type: ignore[arg-type]
    return NETWORKS[kind](a, n_categories=[2])


@pytest.mark.parametrize("kind", ["peakvi", "poissonvi", "scvi", "multivi"])
def test_a_network_learns_the_same_of_both(kind: Kind) -> None:
    network = _network(kind).eval()
    gradients = []
    for x in (counts(), kept(counts())):
        cells = network.minibatch(Cells(x, (1,)), torch.arange(8, 30))
        noise = network.draw_noise(22, torch.Generator().manual_seed(0))
        loss = network.training_loss(cells, noise, 0.5)
        gradients.append(torch.autograd.grad(loss, list(network.parameters()), allow_unused=True))
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        assert (found is None) == (expected is None)
        assert found is None or torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["peakvi", "poissonvi", "scvi", "multivi"])
def test_a_fit_takes_the_same_steps_of_both(kind: Kind) -> None:
    """To the byte: what a sample's latents are does not depend on how its counts were kept."""
    network = _network(kind).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    grafted, found = graft(network, [1]), []
    for x in (counts(), kept(counts())):
        cells = Cells(x, (2,))
        with torch.no_grad():
            projection = grafted.project(with_dense_counts(cells))
        step = step_gradients(grafted, cells, projection, threads=1, minibatch_size=16)
        noise = grafted.draw_noise(16, torch.Generator().manual_seed(0))
        found.append(step(torch.arange(8, 24), noise, 1.0))
    assert found[0].keys() == found[1].keys()
    assert any(bool(g.any()) for g in found[0].values())
    assert all(torch.equal(g, found[1][rows]) for rows, g in found[0].items())


def test_covariates_beside_the_counts_need_them_dense() -> None:
    cells = Cells(kept(counts()), (1,), continuous=torch.zeros(N, 1))
    network, rows = _network("peakvi"), slice(0, 5)
    assert not is_sparse(network.minibatch(cells, rows).x)
    assert is_sparse(network.minibatch(Cells(cells.x, (1,)), rows).x)
