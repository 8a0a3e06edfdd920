"""The gradient of MULTIVI's training loss by the query weights: its wide layers written out.

What the frozen heads of genes and regions give back goes into autograd at the last hidden layers,
so that no graph is kept over genes or regions. What is as small as the hidden layers, the latent
or the proteins comes from autograd.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models_store.cells import Cells, Noise, Projection, select_cells, take, without_counts
from models_store.count_rows import CountRows
from models_store.head_gradients import (
    DefinedHead,
    FusedHead,
    HeadGradients,
    HeadInput,
    SharedHead,
    can_use_kernels,
)
from models_store.modalities import split_modalities
from models_store.multivi import MULTIVI
from models_store.region_head import RegionHead
from models_store.row_sums import Gradients, RowSums
from models_store.sparse_counts import dense
from models_store.surgery import query_parameters


@dataclass(frozen=True)
class Seam:
    """Where autograd takes over from a head: what the head sees of all cells of a step."""

    h: Float[Tensor, "c h"]
    size: Float[Tensor, "c 1"]
    """The log library, or the logit of the depth."""
    found: HeadGradients


class MultiGradients:
    """Gradients for one grafted network in eval mode (see `surgery.graft`), and its cells.

    Args:
        grafted: the network.
        cells: all that it learns from.
        projection: theirs, by `MULTIVI.project`.
        threads: how many may share the widest layers.
    """

    def __init__(
        self, grafted: MULTIVI, cells: Cells, projection: Projection, *, threads: int = 1
    ) -> None:
        assert not grafted.training
        self.cvae, self.projection = grafted, projection
        self.parameters = list(query_parameters(grafted).values())
        genes, regions, proteins = split_modalities(cells.x, grafted.architecture)
        # The heads take genes and regions; what else there is to a cell is chosen for each step.
        self.cells, self.proteins = without_counts(cells), dense(proteins)
        self.gene_head = self.region_head = None
        if (decoder := grafted.gene_decoder) is not None:
            fused = can_use_kernels(decoder, genes)
            head = FusedHead(decoder, CountRows.of(genes)) if fused else DefinedHead(decoder, genes)
            self.gene_head = SharedHead(head, threads)
        if (regions_from := grafted.region_decoder) is not None:
            output, factors = regions_from.output, grafted.region_factors
            self.region_head = SharedHead(
                RegionHead(output, factors, regions, has_depth=True), threads
            )

    @torch.enable_grad()
    def __call__(self, index: Int[Tensor, " n"], noise: Noise, kl_weight: float) -> Gradients:
        """Gradients of `MULTIVI.training_loss`, the mean loss of a minibatch.

        Args:
            index: its cells among those of the network.
            noise: as `MULTIVI.draw_noise` gives it.
            kl_weight: weight of the KL divergence of z.
        """
        cvae, cells, n = self.cvae, select_cells(self.cells, index), len(index)
        made = cvae.encode(self.projection.rows(index), cells.codes)
        seen = cvae.seen_by_decoders(made, noise, cells.continuous)
        y = take(self.proteins, index)
        terms = cvae.terms(made, cvae.protein_surprise(seen, y, cells.codes, noise, made))
        seams = []
        if cvae.gene_decoder is not None and self.gene_head is not None:
            h, has = cvae.gene_decoder.decoder.layers(seen, cells.codes), made.present[:, 0]
            given = HeadInput(h, made.log_library, cells, index)
            seams.append(_seam(self.gene_head, given, has))
        if cvae.region_decoder is not None and self.region_head is not None:
            h, has = cvae.region_decoder.layers(seen, cells.codes), made.present[:, 1]
            given = HeadInput(h, made.depth, cells, index)
            seams.append(_seam(self.region_head, given, has))
        return self._backward(terms.loss(kl_weight), seams, cells, n)

    def _backward(
        self, loss: Float[Tensor, ""], seams: list[Seam], cells: Cells, n: int
    ) -> Gradients:
        """From the loss without its heads, and from what these gave."""
        outputs, gradients = [loss], [torch.ones_like(loss)]
        for seam in seams:
            outputs += [seam.h, seam.size]
            gradients += [seam.found.h / n, seam.found.log_library / n]
        pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
        found = torch.autograd.grad(
            [output for output, _ in pairs],
            self.parameters,
            [gradient for _, gradient in pairs],
            materialize_grads=True,
        )
        by_table: Gradients = dict(zip(self.parameters, found, strict=True))
        of_theta = seams[0].found.log_theta if seams else None
        if of_theta is not None and self.cvae.gene_decoder is not None:
            rows = RowSums(1 / n)
            rows.add(self.cvae.gene_decoder.dispersion, cells.codes[0], of_theta)
            by_table |= rows.gradients
        return by_table


@torch.no_grad()
def _seam(head: SharedHead, given: HeadInput, present: Float[Tensor, " c"]) -> Seam:
    """What a head gives back of the cells that have its modality; 0 of the others."""
    some = torch.nonzero(present).squeeze(1)
    if len(some) == len(present):
        return Seam(given.h, given.log_library, head(_detached(given)))
    found = [torch.zeros_like(given.h), torch.zeros_like(given.log_library)]
    theta = None
    if len(some):
        of_some = head(_detached(_chosen(given, some)))
        found[0][some], found[1][some] = of_some.h, of_some.log_library
        if of_some.log_theta is not None:
            theta = of_some.log_theta.new_zeros(len(present), of_some.log_theta.shape[1])
            theta[some] = of_some.log_theta
    return Seam(given.h, given.log_library, HeadGradients(found[0], found[1], theta))


def _detached(given: HeadInput) -> HeadInput:
    return replace(given, h=given.h.detach(), log_library=given.log_library.detach())


def _chosen(given: HeadInput, some: Int[Tensor, " n"]) -> HeadInput:
    cells = select_cells(given.cells, some)
    return HeadInput(given.h[some], given.log_library[some], cells, given.index[some])
