"""Encoding in blocks of one fixed shape, so that a cell's latent is the same bytes in any company.

A matrix product of another shape may round differently. Every cell therefore passes through
products of exactly `BLOCK` rows, padded with empty cells, whatever query it came in.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from models_store.blocks import BLOCK, block_ranges
from models_store.cells import Cells, Posterior, Projection
from models_store.layers import Code, Codes
from models_store.scanvi import SCANVI
from models_store.scvi import SCVI


@dataclass(frozen=True)
class Latents:
    """Latent coordinates of cells and the variance of their posterior, (c, z)."""

    mean: Float[Tensor, "c z"]
    variance: Float[Tensor, "c z"]


@torch.no_grad()
def project_block(cvae: SCVI, cells: Cells) -> Projection:
    """The encoders' constant inputs for at most `BLOCK` cells."""
    n = len(cells.x)
    size_factor = cells.size_factor
    padded = Cells(
        _padded(cells.x),
        cells.codes,  # projections do not look at them
        None if cells.continuous is None else _padded(cells.continuous),
        None,
        None if size_factor is None else pad(size_factor, (0, BLOCK - n), value=1.0),
    )
    whole = cvae.project(padded)
    library = None if whole.library is None else whole.library[:n].clone()
    return Projection(whole.z[:n].clone(), library, whole.log_library[:n].clone())


def join_projections(parts: list[Projection]) -> Projection:
    """Blocks of one query, in order."""
    libraries = [part.library for part in parts if part.library is not None]
    return Projection(
        torch.cat([part.z for part in parts]),
        torch.cat(libraries) if libraries else None,
        torch.cat([part.log_library for part in parts]),
    )


@torch.no_grad()
def encode(
    cvae: SCVI, projection: Projection, codes: Codes, *, device: torch.device | None = None
) -> Latents:
    """Latents of all cells from their projections; the network must be in eval mode.

    `device`: the network's, if the projections are elsewhere; blocks of them are taken there.
    """
    assert not cvae.training
    means, variances = [], []
    for start, stop in block_ranges(len(projection.z)):
        here = projection.rows(slice(start, stop)).to(device or projection.z.device)
        block = Projection(_padded(here.z), None, _padded(here.log_library))
        q_z: Posterior = cvae.posterior(block, tuple(_block(code, start, stop) for code in codes))
        means.append(cvae.latent(q_z)[: stop - start])
        variances.append(q_z.v[: stop - start])
    return Latents(torch.cat(means), torch.cat(variances))


@torch.no_grad()
def label_probabilities(
    cvae: SCANVI, mean: Float[Tensor, "c z"]
) -> Iterator[Float[Tensor, "block k"]]:
    """The probability of each label of cells with these latents, block by block."""
    assert not cvae.training
    for start, stop in block_ranges(len(mean)):
        yield cvae.label_probabilities(_padded(mean[start:stop]))[: stop - start]


def _block(code: Code, start: int, stop: int) -> Code:
    return code if isinstance(code, int) else _padded(code[start:stop])


def _padded(rows: Tensor) -> Tensor:
    """Zeros (and category 0) below, to `BLOCK` rows."""
    below = BLOCK - len(rows)
    return pad(rows, (0, below) if rows.dim() == 1 else (0, 0, 0, below))
