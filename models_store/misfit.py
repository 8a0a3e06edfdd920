"""How far cells are from what a network's forward pass makes of them, in nats a count.

With q the mean over cells of each gene's share of the counts, and r the mean of the shares that the
decoder gives at the cells' own latents,

    misfit = KL(q || r) = Σ_g q_g log(q_g / r_g)

by the jackknife over cells, which takes off what the noise of few counts adds (Quenouille 1956).
Shares have no depth, and a gene that the cells lack is left out of both, so neither enters. Nor
does how many counts a cell has of genes, of regions and of proteins: r has as much of each as q.
Notation as in `layers`: c cells, g genes, z latent; k runs of features of one kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

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
    weights: Floats
    """The share of the counts in each run, (k,)."""
    by_run: Floats
    """Nats a count of each run, (k,); NaN where it has none."""

    def weighed(self, weights: Floats) -> float:
        """What it would be with these shares of the counts in each run; unknown runs are as all."""
        return float(weights @ np.where(np.isnan(self.by_run), self.nats, self.by_run))


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


def misfit(x: Floats, shares: Floats, covered: Flags, runs: Sequence[int]) -> Misfit:
    """How far cells are from their reconstruction.

    Args:
        x: counts, (c, g), at least one of each cell's in covered genes; two cells or more.
        shares: of the same cells, as `reconstruct` gives them.
        covered: genes that the cells were measured for, (g,).
        runs: how many features there are of each kind, (k,); g in sum.
    """
    slices = _covered_runs(covered, runs)
    x, shares = x[:, covered], shares[:, covered]
    weights = _by_run(x, slices)
    weights /= weights.sum(0)
    inside = [_normalised(shares[:, run]) for run in slices]
    q_cells = _normalised(x)
    r_cells = np.concatenate([w[:, None] * r for w, r in zip(weights, inside, strict=True)], axis=1)
    n = len(q_cells)
    q, r = q_cells.sum(0), r_cells.sum(0)
    whole = _parts(q / n, r / n)
    blocks = [slice(at, at + JACKKNIFE_BLOCK) for at in range(0, n, JACKKNIFE_BLOCK)]
    without = np.concatenate(
        [
            _by_run(_parts((q - q_cells[b]) / (n - 1), (r - r_cells[b]) / (n - 1)), slices)
            for b in blocks
        ],
        axis=1,
    )
    nats = n * _by_run(whole[None], slices)[:, 0] - (n - 1) * without.mean(1)
    total, weight = without.sum(0), weights.mean(1)
    error = np.sqrt((n - 1) / n * np.square(total - total.mean()).sum())
    by_run = np.divide(nats, weight, out=np.full_like(nats, np.nan), where=weight > 0)
    return Misfit(float(nats.sum()), float(error), q / n, r / n, whole, weight, by_run)


def _covered_runs(covered: Flags, runs: Sequence[int]) -> list[slice]:
    """Where the covered features of each run stand among all that are covered."""
    seen = np.concatenate([[0], np.cumsum(covered)])
    ends = seen[np.cumsum([0, *runs])].tolist()
    return [slice(start, stop) for start, stop in pairwise(ends)]


def _by_run(rows: Floats, slices: Sequence[slice]) -> Floats:
    """The sum of each row over each run, (k, rows)."""
    return np.stack([rows[:, run].sum(axis=-1) for run in slices])


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
