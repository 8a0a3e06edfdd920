"""Sparse rows are projected to the same bytes as dense ones, whatever block came before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from models_store.cells import Cells
from models_store.encoding import project_block
from models_store.scvi import SCVI
from models_store.sparse_blocks import BlockProjector
from tests.models_store.networks import architecture

N_GENES = 37


def rows(n: int, seed: int) -> sp.csr_matrix:
    """Counts, a few of them fractions, and a cell without any."""
    rng = np.random.default_rng(seed)
    dense = rng.poisson(0.3, (n, N_GENES)) * rng.choice([1.0, 0.37, 5000.0], (n, N_GENES))
    dense[n // 2] = 0
    return sp.csr_matrix(dense.astype(np.float32))


@pytest.mark.parametrize(
    "options",
    [{}, {"log_variational": False}, {"library": "latent"}, {"library": "size_factor"}],
    ids=str,
)
def test_a_block_leaves_nothing_behind(options: Mapping[str, Any]) -> None:
    cvae = SCVI(architecture(n_genes=N_GENES, **options), n_categories=(2,), n_continuous=1).eval()
    project = BlockProjector(cvae)
    for seed, n in enumerate((1024, 3, 700)):
        counts = rows(n, seed)
        continuous, size_factor = torch.randn(n, 1), torch.rand(n) + 0.5
        found = project(counts, continuous, size_factor)
        cells = Cells(torch.from_numpy(counts.toarray()), (), continuous, None, size_factor)
        wanted = project_block(cvae, cells)
        assert torch.equal(found.z, wanted.z)
        assert torch.equal(found.log_library, wanted.log_library)
        assert (found.library is None) == (wanted.library is None)
        if found.library is not None and wanted.library is not None:
            assert torch.equal(found.library, wanted.library)


def test_logarithms_do_not_depend_on_where_a_count_stands() -> None:
    counts = torch.cat([torch.arange(3000.0), torch.rand(3000) * 100])
    whole = torch.log1p(counts)
    for start, stop in ((0, 1), (5, 12), (17, 33), (1, 2998), (2999, 5999)):
        assert torch.equal(torch.log1p(counts[start:stop].clone()), whole[start:stop])
