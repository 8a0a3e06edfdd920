"""Where training on open regions starts, of MULTIVI and PEAKVI: at what an average cell has.

Drawn weights say that every region is open in a quarter of the cells and that a cell has one count.
While MULTIVI unlearns this, it gives its latent up; PEAKVI explains cells held out worse. Started
at the averages of its cells a network has nothing but their differences to learn (decisions 0071
and 0073).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from models_store.cells import Cells
from models_store.modalities import split_modalities
from models_store.multivi import MULTIVI
from models_store.peakvi import PEAKVI
from models_store.regions import RegionDecoder
from models_store.sparse_counts import row_sums, scipy_counts

PSEUDOCOUNT = 0.5
"""Of a gene without counts."""
AT_ZERO = 0.5
"""What p is multiplied by at first for each sigmoid that is yet to be learnt."""
OPEN_BETWEEN = (1e-4, 0.9)
"""Probabilities that a region starts with."""


@torch.no_grad()
def start_at_averages(cvae: MULTIVI | PEAKVI, cells: Cells) -> None:
    """Set the last biases of decoders and of the encoder of the library, in place."""
    if isinstance(cvae, PEAKVI):
        depth = 1.0 if cvae.depth_encoder is None else AT_ZERO
        _start_regions(cvae.decoder, _Counted.of(cells.x), depth, cvae.region_factors)
        return
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
    if cvae.region_decoder is not None:
        depth = AT_ZERO
        if cvae.depth_encoder is None:
            assert factors is not None
            depth = float(factors[regions.has, -1].mean())
        _start_regions(cvae.region_decoder, regions, depth, cvae.region_factors)


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


def _start_regions(
    decoder: RegionDecoder, regions: _Counted, depth: float, factors: Tensor | None
) -> None:
    if not regions.n:
        return
    beside_p = depth * (1.0 if factors is None else AT_ZERO)
    share = regions.open / regions.n / max(beside_p, OPEN_BETWEEN[0])
    decoder.output.bias.copy_(torch.logit(share.clamp(*OPEN_BETWEEN)))


def _inverse_softplus(y: Tensor) -> Tensor:
    return y + torch.log(-torch.expm1(-y))
