"""Genes that the decoder makes differ between cells inform; those that it keeps level do not."""

from __future__ import annotations

import pytest
import torch

from models_store.informativeness import informativeness

from .networks import ARCHITECTURES, N_GENES, reference


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_tells_it(name: str) -> None:
    told = informativeness(reference(**ARCHITECTURES[name]))
    assert len(told) == N_GENES
    assert sum(told) == pytest.approx(1)
    assert min(told) >= 0


def test_the_gene_that_differs_between_cells_informs_most() -> None:
    network = reference(library="size_factor")  # softplus: no gene moves another's logit
    with torch.no_grad():
        network.decoder.scale.weight[torch.arange(N_GENES) != 4] = 0
        network.decoder.scale.weight[4] *= 10
    told = informativeness(network)
    assert max(range(N_GENES), key=told.__getitem__) == 4
    assert told[4] > 0.5
    # Cells that are all alike tell nothing apart.
    level = informativeness(network, torch.zeros(20, 3))
    assert level == pytest.approx([1 / N_GENES] * N_GENES)


def test_batches_do_not_enter() -> None:
    network = reference()
    told = informativeness(network, torch.zeros(8, 3))
    assert told == pytest.approx([1 / N_GENES] * N_GENES)
