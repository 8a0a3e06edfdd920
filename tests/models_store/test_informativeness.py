"""Genes that the decoder makes differ between cells inform; those that it keeps level do not."""

from __future__ import annotations

import pytest
import torch

from models_store.informativeness import informativeness
from models_store.scvi import SCVI

from .manifests import manifest


def test_the_gene_that_the_latent_moves_informs_most() -> None:
    torch.manual_seed(0)
    cvae = SCVI.of(manifest()).eval()
    told = informativeness(cvae)
    assert told == informativeness(cvae)
    assert len(told) == 3
    assert sum(told) == pytest.approx(1)
    with torch.no_grad():
        cvae.head.scale_of_gene_0 = None  # type: ignore[assignment]
