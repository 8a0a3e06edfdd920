"""How far cells are from what a network's forward pass makes of them, in nats a count.

With q the mean over cells of each gene's share of the counts, and r the mean of the shares that the
decoder gives at the cells' own latents,

    misfit = KL(q || r) = Σ_g q_g log(q_g / r_g)

by the jackknife over cells, which takes off what the noise of few counts adds (Quenouille 1956).
Shares have no depth, and a gene that the cells lack is left out of both, so neither enters.
Notation as in `layers`: c cells, g genes, z latent.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from models_store.blocks import block_ranges
from models_store.cells import Cells
from models_store.cvae import CVAE
from models_store.encoding import encode, project_block
from models_store.layers import Codes
from models_store.surgery import graft

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SMALLEST_SHARE = 1e-9
"""What float32 rounds to none is no certainty that a gene is never there."""
JACKKNIFE_BLOCK = 64


@dataclass(frozen=True)
class Misfit:
    """KL(q || r) in nats a count, its standard error; of each covered gene q, r and its part."""

    nats: float
    error: float
    q: Floats
    r: Floats
    by_gene: Floats


@torch.no_grad()
def reconstruct(cvae: CVAE, x: Float[Tensor, "c g"]) -> Floats:
    """Each gene's share of what the decoder expects of these cells, (c, g); rows sum to 1.

    The pass of recipe `forward`: every categorical covariate takes the mean of its reference rows,
    and continuous ones are 0.

    Args:
        cvae: the frozen network, in eval mode, on the device of the cells.
        x: counts; cells without any are allowed, and mean nothing.
    """
    grafted = graft(cvae, [1] * len(cvae.n_categories))
    codes: Codes = tuple(cvae.n_categories)
    shares = [np.zeros((0, x.shape[1]))]
    for start, stop in block_ranges(len(x)):
        cells = _cells(cvae, x[start:stop], codes)
        z = encode(grafted, project_block(grafted, cells), codes).mean
        shares.append(grafted.expected_shares(z, codes).double().cpu().numpy())
    return np.concatenate(shares)


def _cells(cvae: CVAE, x: Float[Tensor, "c g"], codes: Codes) -> Cells:
    # No latent and no share depends on a size factor.
    return Cells(x, codes, cvae.no_continuous(len(x)), None, x.new_ones(len(x)))


def misfit(x: Floats, shares: Floats, covered: Flags) -> Misfit:
    """How far cells are from their reconstruction.

    Args:
        x: counts, (c, g), at least one of each cell's in covered genes; two cells or more.
        shares: of the same cells, as `reconstruct` gives them.
        covered: genes that the cells were measured for, (g,).
    """
    q_cells, r_cells = _normalised(x[:, covered]), _normalised(shares[:, covered])
    n = len(q_cells)
    q, r = q_cells.sum(0), r_cells.sum(0)
    whole = _parts(q / n, r / n)
    blocks = [slice(at, at + JACKKNIFE_BLOCK) for at in range(0, n, JACKKNIFE_BLOCK)]
    without = np.concatenate(
        [_parts((q - q_cells[b]) / (n - 1), (r - r_cells[b]) / (n - 1)).sum(-1) for b in blocks]
    )
    nats = n * whole.sum() - (n - 1) * without.mean()
    error = np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    return Misfit(float(nats), float(error), q / n, r / n, whole)


def _normalised(rows: Floats) -> Floats:
    return np.asarray(rows / rows.sum(axis=1, keepdims=True), dtype=np.float64)


def _parts(q: Floats, r: Floats) -> Floats:
    """q log(q / r), 0 where q is."""
    ratio = np.maximum(q, SMALLEST_SHARE) / np.maximum(r, SMALLEST_SHARE)
    return np.asarray(np.maximum(q, 0.0) * np.log(ratio), dtype=np.float64)


@torch.no_grad()
def simulate_counts(
    cvae: CVAE, z: Float[Tensor, "c z"], codes: Codes, library_size: int, *, seed: int = 0
) -> Floats:
    """Cells as the decoder would have them at these latents: `library_size` counts each, (c, g)."""
    shares = _normalised(cvae.expected_shares(z, codes).double().cpu().numpy())
    rng = np.random.default_rng(seed)
    return rng.multinomial(library_size, shares).astype(np.float64)
