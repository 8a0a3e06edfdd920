"""Where the background of a batch's proteins starts: at the lower of a cell's two populations.

For each of some cells a mixture of two normals is fitted to log(1 + its proteins), and the lower
one is its background (Gayoso, Steier et al. 2021). It is a start: training goes on from there.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from models_store.cells import Cells
from models_store.totalvi import TOTALVI

N_CELLS = 100
FEWEST_PROTEINS = 11
"""With fewer, every batch starts at the same background, as in scvi-tools."""
FEWEST_MEASURED = 5
UNKNOWN = (0.0, 0.05)
"""Mean and sd of a batch that shows too few."""
ROUNDS = 100
SMALLEST_VARIANCE = 1e-6


@torch.no_grad()
def start_backgrounds(cvae: TOTALVI, training: Cells, seed: int) -> None:
    """Set the prior of every batch (or panel) that has cells."""
    if cvae.architecture.n_proteins < FEWEST_PROTEINS:
        return
    y = cvae.split(training.x)[1].double().cpu()
    code = training.codes[0] if training.panel is None else training.panel
    groups = torch.as_tensor(code).expand(len(y)).cpu()
    tables, generator = cvae.proteins, torch.Generator().manual_seed(seed)
    for group in sorted(set(groups.tolist())):
        mine = y[groups == group]
        chosen = mine[torch.randint(len(mine), (N_CELLS,), generator=generator)]
        mean, sd = _background(chosen[:, (mine > 0).any(0)])
        tables.background_mean.reference[group] = mean
        tables.background_log_sd.reference[group] = math.log(sd)


def _background(cells: Float[Tensor, "c p"]) -> tuple[float, float]:
    """Mean over cells of their lower mean, and the sd of this mean."""
    if cells.shape[1] < FEWEST_MEASURED:
        return UNKNOWN
    mean, variance = lower_normals(cells.log1p())
    return float(mean.mean()), float(variance.sum().sqrt()) / len(mean)


def lower_normals(
    values: Float[Tensor, "c p"],
) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Mean and variance of the lower of two normals that are fitted to each row, by EM.

    They start at the values below and above the middle of the row's range.
    """
    middle = (values.amin(1, keepdim=True) + values.amax(1, keepdim=True)) / 2
    high = (values > middle).double()
    shares = torch.stack([1 - high, high])  # (2, c, p)
    for _ in range(ROUNDS):
        weight = shares.sum(-1, keepdim=True).clamp(min=1e-12)
        mean = (shares * values).sum(-1, keepdim=True) / weight
        variance = (shares * (values - mean) ** 2).sum(-1, keepdim=True) / weight
        variance = variance + SMALLEST_VARIANCE
        surprise = 0.5 * ((values - mean) ** 2 / variance + variance.log())
        shares = torch.softmax(weight.log() - surprise, dim=0)
    return mean[0, :, 0], variance[0, :, 0]
