"""Decoding in blocks of one fixed shape, so that a value is the same bytes in any company.

Values are means over draws of z from a cell's posterior, the same draws for every cell and call.
What scvi-tools decodes at the posterior's mean (all of MULTIVI and PEAKVI) is decoded there.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from models_store.cells import Cells, Posterior, Projection
from models_store.cvae import CVAE
from models_store.encoding import padded
from models_store.layers import Code, Codes
from models_store.outputs import OutputName

DRAWS, SEED = 24, 0
"""Each draw comes with its mirror image, and their variance is 1 in every direction: as near to
what endless draws give as 100 independent ones (decision 0072)."""


@torch.no_grad()
def decode_block(
    cvae: CVAE,
    output: OutputName,
    projection: Projection,
    cells: Cells,
    *,
    batch: int | None = None,
) -> Float[Tensor, "c f"]:
    """An output of at most `BLOCK` cells, for all features of its kind.

    Args:
        cvae: a grafted network in eval mode, which has this output.
        output: which.
        projection: of the cells.
        cells: their codes and covariates; counts are not looked at.
        batch: the code of a batch of the reference, as if all cells came from it; None: their own.
    """
    assert not cvae.training
    n = len(projection.z)
    codes: Codes = tuple(_padded(code) for code in cells.codes)
    whole = replace(
        cells,
        codes=codes,
        continuous=None if cells.continuous is None else padded(cells.continuous),
        size_factor=None if cells.size_factor is None else padded(cells.size_factor, value=1.0),
    )
    posterior = cvae.posterior(_whole(projection), codes)
    into = whole if batch is None else replace(whole, codes=(batch, *codes[1:]))
    if output in cvae.decoded_at_mean:
        return cvae.decoded(output, posterior.m, into)[:n]
    return _mean(cvae, output, posterior, into)[:n]


def _mean(
    cvae: CVAE, output: OutputName, posterior: Posterior, cells: Cells
) -> Float[Tensor, "c f"]:
    total = None
    for noise in draws(posterior.m.shape[1]).to(posterior.m.device):
        found = cvae.decoded(output, cvae.sample(posterior, noise[None]), cells)
        total = found if total is None else total.add_(found)
    assert total is not None
    return total / DRAWS


def draws(n_latent: int) -> Float[Tensor, "d z"]:
    """The noise of every draw: of mean 0 and variance 1 in each latent dimension, exactly."""
    generator = torch.Generator().manual_seed(SEED)
    half = torch.randn(DRAWS // 2, n_latent, generator=generator)
    half = half / half.pow(2).mean(0).sqrt()
    return torch.cat([half, -half])


def _whole(projection: Projection) -> Projection:
    library = None if projection.library is None else padded(projection.library)
    return Projection(padded(projection.z), library, padded(projection.log_library))


def _padded(code: Code) -> Code:
    return code if isinstance(code, int) else padded(code)
