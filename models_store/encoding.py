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
from models_store.cvae import CVAE
from models_store.layers import Code, Codes
from models_store.scanvi import SCANVI
from models_store.sparse_counts import dense


@dataclass(frozen=True)
class Latents:
    """Latent coordinates of cells and the variance of their posterior, (c, z)."""

    mean: Float[Tensor, "c z"]
    variance: Float[Tensor, "c z"]


@torch.no_grad()
def project_block(cvae: CVAE, cells: Cells) -> Projection:
    """The encoders' constant inputs for at most `BLOCK` cells."""
    n = len(cells.x)
    size_factor = cells.size_factor
    block = Cells(
        padded(dense(cells.x)),
        cells.codes,  # projections do not look at them
        None if cells.continuous is None else padded(cells.continuous),
        None,
        None if size_factor is None else padded(size_factor, value=1.0),
    )
    return first_rows(cvae.project(block), n)


def first_rows(whole: Projection, n: int) -> Projection:
    """A copy of the first cells, which does not keep the others in memory."""
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
    cvae: CVAE, projection: Projection, codes: Codes, *, most_draws: int | None = None
) -> Latents:
    """Latents of all cells from their projections; the network must be in eval mode.

    `most_draws`: see `CVAE.latent`.
    """
    means, variances = [], []
    for start, stop in block_ranges(len(projection.z)):
        here = tuple(_block(code, start, stop) for code in codes)
        found = encode_block(cvae, projection.rows(slice(start, stop)), here, most_draws=most_draws)
        means.append(found.mean)
        variances.append(found.variance)
    return Latents(torch.cat(means), torch.cat(variances))


@torch.no_grad()
def encode_block(
    cvae: CVAE, projection: Projection, codes: Codes, *, most_draws: int | None = None
) -> Latents:
    """The same of at most `BLOCK` cells."""
    assert not cvae.training
    n = len(projection.z)
    block = Projection(padded(projection.z), None, padded(projection.log_library))
    q_z: Posterior = cvae.posterior(
        block, tuple(code if isinstance(code, int) else padded(code) for code in codes)
    )
    return Latents(cvae.latent(q_z, most_draws=most_draws)[:n], q_z.v[:n])


@torch.no_grad()
def label_probabilities(
    cvae: SCANVI, mean: Float[Tensor, "c z"]
) -> Iterator[Float[Tensor, "block k"]]:
    """The probability of each label of cells with these latents, block by block."""
    assert not cvae.training
    for start, stop in block_ranges(len(mean)):
        yield cvae.label_probabilities(padded(mean[start:stop]))[: stop - start]


def _block(code: Code, start: int, stop: int) -> Code:
    return code if isinstance(code, int) else code[start:stop]


def padded(rows: Tensor, value: float = 0.0) -> Tensor:
    """Zeros (and category 0), or another value, below, to `BLOCK` rows."""
    below = BLOCK - len(rows)
    return pad(rows, (0, below) if rows.dim() == 1 else (0, 0, 0, below), value=value)
