"""Where values are decoded: at the mean of the posterior or over draws, as scvi-tools does it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models_store.cells import Cells, Posterior
from models_store.cvae import CVAE
from models_store.decoding import decode_block, draws
from models_store.outputs import OutputName
from models_store.peakvi import PEAKVI
from models_store.poissonvi import POISSONVI
from models_store.surgery import graft

from . import networks, test_multivi

N_NEW = (2, 1)


def over_draws(network: CVAE, output: OutputName, q: Posterior, them: Cells) -> Tensor:
    found = [
        network.decoded(output, network.sample(q, noise[None]), them)
        for noise in draws(q.m.shape[1])
    ]
    return torch.stack(found).mean(0)


@torch.no_grad()
@pytest.mark.parametrize("name", ["trimodal", "gene-cell, ln"])
def test_multivi_decodes_everything_at_the_mean(name: str) -> None:
    network = graft(test_multivi.network(name), N_NEW).eval()
    them = test_multivi.cells(network)
    projection = network.project(them)
    q = network.posterior(projection, them.codes)
    for output in network.outputs:
        found = decode_block(network, output, projection, them)
        assert torch.allclose(found, network.decoded(output, q.m, them), rtol=1e-5, atol=1e-7)
        far = (found - over_draws(network, output, q, them)).abs() / found
        assert far.median() > 1e-3, "the test cannot tell"


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {"kind": PEAKVI},
        {"kind": POISSONVI, "likelihood": "poisson"},
        {"kind": POISSONVI, "likelihood": "poisson", "latent_distribution": "ln"},
    ],
)
def test_accessibility_of_one_modality(options: dict[str, Any]) -> None:
    """PEAKVI's at the mean; scvi-tools' POISSONVI draws, as SCVI does."""
    at_mean = options["kind"] is PEAKVI
    network = graft(networks.reference(**options), N_NEW).eval()
    them = networks.cells()
    projection = network.project(them)
    q = network.posterior(projection, them.codes)
    drawn = over_draws(network, "accessibility", q, them)
    expected = network.decoded("accessibility", q.m, them) if at_mean else drawn
    found = decode_block(network, "accessibility", projection, them)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)
    other = drawn if at_mean else network.decoded("accessibility", q.m, them)
    assert not torch.allclose(found, other, rtol=1e-3), "the test cannot tell"
