"""How far cells are from what a network's forward pass makes of them, in nats a count.

With q the mean over cells of each gene's share of the counts, and r the mean of the shares that the
decoder gives at the cells' own latents,

    misfit = KL(q || r) = Σ_g q_g log(q_g / r_g)

by the jackknife over cells, which takes off what the noise of few counts adds (Quenouille 1956).
Shares have no depth, and a gene that the cells lack is left out of both, so neither enters. Nor
does how many counts a cell has of genes, of regions and of proteins: r has as much of each as q.
Notation as in `layers`: c cells, g genes, z latent; k runs of features of one kind.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from models_store.blocks import block_ranges, decoded_at_once
from models_store.cvae import CVAE
from models_store.encoding import encode
from models_store.layers import Codes
from models_store.sparse_blocks import BlockProjector
from models_store.surgery import graft

Shares = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SMALLEST_SHARE = 1e-9
"""What float32 rounds to none is no certainty that a gene is never there."""
JACKKNIFE_BLOCK = 64
MOST_COMPARED = 2**22
"""Genes of cells that are compared at a time: 32 MB for each of some numbers of a gene."""


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
def reconstruct(cvae: CVAE, rows: sp.csr_matrix) -> Shares:
    """Each gene's share of what the decoder expects of these cells, (c, g); rows sum to 1.

    The pass of recipe `forward`: every categorical covariate takes the mean of its reference rows,
    and continuous ones are 0.

    Args:
        cvae: the frozen network, in eval mode.
        rows: counts; cells without any are allowed, and mean nothing.
    """
    grafted = graft(cvae, [1] * len(cvae.n_categories))
    codes: Codes = tuple(cvae.n_categories)
    project, shares = BlockProjector(grafted), np.empty(rows.shape, dtype=np.float32)
    for start, stop in block_ranges(len(shares)):
        n = stop - start
        # No latent and no share depends on a size factor.
        given = (cvae.no_continuous(n), torch.ones(n, device=cvae.device))
        z = encode(grafted, project(rows[start:stop], *given), codes).mean
        at_once = decoded_at_once(rows.shape[1])
        for at in range(0, n, at_once):
            expected = grafted.expected_shares(z[at : at + at_once], codes)
            shares[start + at : start + at + len(expected)] = expected.cpu().numpy()
    return shares


@dataclass(frozen=True)
class _Compared:
    """Cells and their reconstruction in covered genes, dense for some cells at a time."""

    x: sp.csr_matrix
    shares: Shares
    covered: Flags
    slices: Sequence[slice]
    weights: Floats
    """Of each cell the share of its counts in each run, (k, c)."""

    def blocks(self) -> Iterator[tuple[Floats, Floats]]:
        """Of some cells and then the next: shares of the counts, and of the reconstruction."""
        n, width = self.x.shape
        at_once = max(1, min(JACKKNIFE_BLOCK, MOST_COMPARED // max(1, width)))
        for at in range(0, n, at_once):
            cells = slice(at, min(at + at_once, n))
            r = self.shares[cells][:, self.covered].astype(np.float64)
            for run, weight in zip(self.slices, self.weights[:, cells], strict=True):
                r[:, run] = _normalised(r[:, run]) * weight[:, None]
            yield _normalised(self.x[cells].toarray()), r


def misfit(x: sp.csr_matrix, shares: Shares, covered: Flags, runs: Sequence[int]) -> Misfit:
    """How far cells are from their reconstruction.

    Args:
        x: counts in float64, (c, g), at least one of each cell's in covered genes; two cells or
            more.
        shares: of the same cells, as `reconstruct` gives them.
        covered: genes that the cells were measured for, (g,).
        runs: how many features there are of each kind, (k,); g in sum.
    """
    slices = _covered_runs(covered, runs)
    x = x[:, np.flatnonzero(covered)]
    weights = np.stack([np.asarray(x[:, run].sum(axis=1)).ravel() for run in slices])
    weights /= weights.sum(0)
    compared = _Compared(x, shares, covered, slices, weights)
    n, q, r = x.shape[0], np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for q_cells, r_cells in compared.blocks():
        q += q_cells.sum(0)
        r += r_cells.sum(0)
    whole = _parts(q / n, r / n)
    without = np.concatenate(
        [
            _by_run(_parts((q - q_cells) / (n - 1), (r - r_cells) / (n - 1)), slices)
            for q_cells, r_cells in compared.blocks()
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
) -> sp.csr_matrix:
    """Cells as the decoder would have them at these latents: `library_size` counts each, (c, g)."""
    rng, found = np.random.default_rng(seed), []
    at_once = decoded_at_once(cvae.architecture.n_features)
    for start in range(0, len(z), at_once):
        rows = slice(start, start + at_once)
        some = [code if isinstance(code, int) else code[rows] for code in codes]
        for expected in cvae.expected_shares(z[rows], some).cpu().numpy():
            share = _normalised(expected[None].astype(np.float64))[0]
            found.append(sp.csr_matrix(rng.multinomial(library_size, share), dtype=np.float64))
    return sp.vstack(found, format="csr")
