"""Where MULTIVI's training starts: at what is expected of an average cell.

Drawn weights say that every region is open in a quarter of the cells and that a cell has one count.
While a network unlearns this, it gives its latent up. Started at the averages of its cells it has
nothing but their differences to learn (decision 0073).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from models_store.cells import Cells
from models_store.modalities import split_modalities
from models_store.multivi import MULTIVI
from models_store.sparse_counts import row_sums, scipy_counts

PSEUDOCOUNT = 0.5
"""Of a gene without counts."""
OPEN_BETWEEN = (1e-4, 0.9)
"""Probabilities that a region starts with."""


@torch.no_grad()
def start_at_averages(cvae: MULTIVI, cells: Cells) -> None:
    """Set the last biases of decoders and of the encoder of the library, in place."""
    genes, regions, _ = (_Counted.of(part) for part in split_modalities(cells.x, cvae.architecture))
    factors = None if cells.size_factor is None else cells.size_factor.reshape(len(cells.x), -1)
    if cvae.gene_decoder is not None and genes.n:
        mean = (genes.totals + PSEUDOCOUNT) / genes.n
        if cvae.library_encoder is not None:
            cvae.library_encoder.output.bias.fill_(float((genes.totals.sum() / genes.n).log()))
            bias = (mean / mean.sum()).log()
        else:
            assert factors is not None
            bias = _inverse_softplus(mean / factors[genes.has, 0].mean())
        cvae.gene_decoder.decoder.scale.bias.copy_(bias)
    if cvae.region_decoder is not None and regions.n:
        # What p is multiplied by: of sigmoids at 0 each is a half.
        depth = 0.5
        if cvae.depth_encoder is None:
            assert factors is not None
            depth = float(factors[regions.has, -1].mean())
        factor = 0.5 if cvae.region_factors is not None else 1.0
        seen = regions.open / regions.n
        share = (seen / max(depth * factor, OPEN_BETWEEN[0])).clamp(*OPEN_BETWEEN)
        cvae.region_decoder.output.bias.copy_(torch.logit(share))


@dataclass(frozen=True)
class _Counted:
    """Of a modality: the cells that have it, and over them what each feature adds up to."""

    has: Tensor
    totals: Tensor
    open: Tensor
    """In how many cells the feature has a count."""

    @property
    def n(self) -> int:
        return int(self.has.sum())

    @classmethod
    def of(cls, x: Tensor) -> Self:
        counts = scipy_counts(x)
        sums = (counts.sum(0), (counts > 0).sum(0))
        totals, seen = (torch.from_numpy(np.asarray(each, np.float32).ravel()) for each in sums)
        return cls(row_sums(x) > 0, totals.to(x.device), seen.to(x.device))


def _inverse_softplus(y: Tensor) -> Tensor:
    return y + torch.log(-torch.expm1(-y))
