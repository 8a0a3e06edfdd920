"""-log p in one pass, against the definition in float64."""

from __future__ import annotations

import pytest
import torch

from models_store.likelihood_kernels import can_fuse_likelihood, fused_negative_log_likelihood
from models_store.likelihoods import log_likelihood


def draw(n_cells: int, n_genes: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    mu = (2 * normal(n_cells, n_genes) - 1).exp()
    return {
        "x": torch.poisson(mu, generator=generator),
        "mu": mu,
        "theta": normal(n_genes).exp(),
        "pi": 2 * normal(n_cells, n_genes),
    }


@pytest.mark.parametrize("likelihood", ["nb", "zinb"])
@pytest.mark.parametrize("case", ["plain", "theta by cell", "tiny and huge mu", "extreme theta"])
def test_it_is_what_the_definition_gives(likelihood: str, case: str) -> None:
    found = draw(7, 40, seed=3)
    if case == "theta by cell":
        found["theta"] = found["theta"].expand(7, 40) * torch.rand(7, 1).add(0.5)
    if case == "tiny and huge mu":
        found["mu"][:, ::3], found["mu"][:, 1::3] = 1e-12, 1e5
        found["x"][:, 0] = 3.0
    if case == "extreme theta":
        found["theta"][::2], found["theta"][1::2] = 1e-4, 1e5
    pi = found["pi"] if likelihood == "zinb" else None
    exact = {name: values.double() for name, values in found.items()}
    expected = -log_likelihood(
        likelihood,  # type: ignore[arg-type]
        exact["x"],
        exact["mu"],
        exact["theta"],
        None if pi is None else exact["pi"],
    ).sum(-1)
    with torch.no_grad():
        one_pass = fused_negative_log_likelihood(found["x"], found["mu"], found["theta"], pi)
    assert torch.allclose(one_pass.double(), expected, rtol=2e-6, atol=1e-4)


def test_no_graph_is_asked_of_it() -> None:
    x = torch.ones(2, 3)
    assert not can_fuse_likelihood(x, "nb")
    with torch.no_grad():
        assert can_fuse_likelihood(x, "nb")
        assert not can_fuse_likelihood(x, "poisson")
        assert not can_fuse_likelihood(x.double(), "nb")
