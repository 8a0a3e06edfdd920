"""Where MULTIVI's training starts: at what is expected of an average cell.

Drawn weights say that every region is open in a quarter of the cells and that a cell has one count.
While a network unlearns this, it gives its latent up. Started at the averages of its cells it has
nothing but their differences to learn (decision 0073).
"""

import torch
from torch import Tensor

from models_store.cells import Cells
from models_store.modalities import split_modalities
from models_store.multivi import MULTIVI

PSEUDOCOUNT = 0.5
"""Of a gene without counts."""
OPEN_BETWEEN = (1e-4, 0.9)
"""Probabilities that a region starts with."""


@torch.no_grad()
def start_at_averages(cvae: MULTIVI, cells: Cells) -> None:
    """Set the last biases of decoders and of the encoder of the library, in place."""
    genes, regions, _ = split_modalities(cells.x, cvae.architecture)
    factors = None if cells.size_factor is None else cells.size_factor.reshape(len(cells.x), -1)
    if cvae.gene_decoder is not None and (has := genes.sum(-1) > 0).any():
        mean = (genes[has].sum(0) + PSEUDOCOUNT) / has.sum()
        if cvae.library_encoder is not None:
            cvae.library_encoder.output.bias.fill_(float(genes[has].sum(-1).mean().log()))
            bias = (mean / mean.sum()).log()
        else:
            assert factors is not None
            bias = _inverse_softplus(mean / factors[has, 0].mean())
        cvae.gene_decoder.decoder.scale.bias.copy_(bias)
    if cvae.region_decoder is not None and (has := regions.sum(-1) > 0).any():
        seen = (regions[has] > 0).to(regions.dtype).mean(0)
        # What p is multiplied by: of sigmoids at 0 each is a half.
        depth = 0.5
        if cvae.depth_encoder is None:
            assert factors is not None
            depth = float(factors[has, -1].mean())
        factor = 0.5 if cvae.region_factors is not None else 1.0
        share = (seen / max(depth * factor, OPEN_BETWEEN[0])).clamp(*OPEN_BETWEEN)
        cvae.region_decoder.output.bias.copy_(torch.logit(share))


def _inverse_softplus(y: Tensor) -> Tensor:
    return y + torch.log(-torch.expm1(-y))
