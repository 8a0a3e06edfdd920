"""From the last hidden layer to the likelihood and back: nearly all the work of a training step.

The cells of a step may be shared out among threads, each going the whole way with its own.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models_store.architecture import Architecture
from models_store.cells import Cells, select_cells, take_dense
from models_store.coders import Decoder, Dispersion
from models_store.conditional_outputs import Sums, added
from models_store.count_rows import CountRows
from models_store.kernels import Logits, can_fuse, fused_gradient
from models_store.reconstruction import DecoderOutput, Head, reconstruction_gradients

SMALLEST_PART = 200_000
"""Outputs of the decoder that are worth a thread of their own."""

CELLS_AT_ONCE = 256
"""Cells whose outputs are held at a time: 2 MB of 2,000 genes stay in the core's own cache."""


@dataclass(frozen=True)
class HeadGradients:
    """Of Σ -log p by the last hidden layer, the log library and each batch's log θ."""

    h: Float[Tensor, "c h"]
    log_library: Float[Tensor, "c 1"]
    """Of regions, by the logit of the depth."""
    log_theta: Float[Tensor, "c g"] | None
    rows: Sequence[Sums] = ()
    """Of each output that sees covariates, by its query rows."""


@dataclass(frozen=True)
class HeadInput:
    """What the output layers see of some cells, and of which of the head's cells."""

    h: Float[Tensor, "c h"]
    log_library: Float[Tensor, "c 1"]
    """Of regions, the logit of the depth."""
    cells: Cells
    index: Int[Tensor, " c"]

    def part(self, rows: slice) -> "HeadInput":
        """A range of them."""
        cells = select_cells(self.cells, rows)
        return HeadInput(self.h[rows], self.log_library[rows], cells, self.index[rows])


class GeneNetwork(Protocol):
    """What a head asks of a network, or of the part of one that decodes genes."""

    architecture: Architecture
    head: Head
    decoder: Decoder
    dispersion: Dispersion

    def emit(
        self, h: Float[Tensor, "c h"], log_library: Float[Tensor, "c 1"], cells: Cells
    ) -> DecoderOutput:
        """The raw outputs from the last hidden layer."""

    def log_theta(self, h: Float[Tensor, "c h"], cells: Cells) -> Float[Tensor, "*#c g"]:
        """log θ of each gene, for all cells or for each."""


class SharedOut(Protocol):
    """A head that can be given some of the cells of a step."""

    n_outputs: int
    """Numbers that it makes for each cell."""

    def __call__(self, given: HeadInput) -> HeadGradients:
        """For these cells."""


class DefinedHead:
    """Any likelihood, on any device, as `reconstruction` defines it.

    Args:
        cvae: a grafted network in eval mode.
        x: counts of all cells.
    """

    def __init__(self, cvae: GeneNetwork, x: Float[Tensor, "c g"]) -> None:
        self.cvae, self.x, self.n_outputs = cvae, x, cvae.decoder.n_outputs
        self.by_batch = cvae.architecture.dispersion == "gene-batch"
        self.wants_theta = self.by_batch or cvae.decoder.log_theta is not None

    @torch.no_grad()  # each thread has its own mode
    def __call__(self, given: HeadInput) -> HeadGradients:
        """For these cells."""
        cvae, decoder = self.cvae, self.cvae.decoder
        out = cvae.emit(given.h, given.log_library, given.cells)
        x = take_dense(self.x, given.index)
        g = reconstruction_gradients(cvae.head, x, out, wants_theta=self.wants_theta)
        g_h = g.logits @ decoder.scale.weight
        if decoder.pi is not None and g.pi is not None:
            g_h.addmm_(g.pi, decoder.pi.weight)
        if decoder.log_theta is not None and g.log_theta is not None:
            g_h.addmm_(g.log_theta, decoder.log_theta.weight)
        return HeadGradients(g_h, g.log_library, g.log_theta if self.by_batch else None)


class FusedHead:
    """nb and zinb with a dispersion that is frozen, under a softmax, on the CPU in float32.

    The products are without their bias, which the kernels add, and overwritten by the gradients.
    """

    def __init__(self, cvae: GeneNetwork, x: CountRows) -> None:
        self.cvae, self.x, self.n_outputs = cvae, x, cvae.decoder.n_outputs
        decoder = cvae.decoder
        self.layers = [layer for layer in (decoder.scale, decoder.pi) if layer is not None]
        # Transposed once: the product is a third faster for some shapes, and never slower.
        self.weights = [layer.weight.detach().T.contiguous() for layer in self.layers]
        of_all = cvae.architecture.dispersion == "gene"
        self.theta = cvae.dispersion.reference[0].detach().exp() if of_all else None

    @torch.no_grad()  # each thread has its own mode
    def __call__(self, given: HeadInput) -> HeadGradients:
        """For these cells, some at a time."""
        g_h, g_library = torch.empty_like(given.h), torch.empty_like(given.log_library)
        n = min(len(given.h), CELLS_AT_ONCE)
        outputs = [torch.empty(n, weight.shape[1]) for weight in self.weights]
        for start in range(0, len(given.h), n):
            rows = slice(start, start + n)
            g_library[rows] = self._block(given.part(rows), outputs, g_h[rows])
        return HeadGradients(g_h, g_library, None)

    def _block(
        self, given: HeadInput, outputs: Sequence[Tensor], g_h: Float[Tensor, "c h"]
    ) -> Float[Tensor, "c 1"]:
        """Writes to g_h; gives the gradient by the log library."""
        theta = self.theta
        if theta is None:
            theta = self.cvae.log_theta(given.h, given.cells).exp()
        products = [output[: len(given.h)] for output in outputs]
        for product, weight in zip(products, self.weights, strict=True):
            torch.mm(given.h, weight, out=product)
        scale, *pi = (
            Logits(product, layer.bias)
            for product, layer in zip(products, self.layers, strict=True)
        )
        x, library = self.x.rows(given.index), given.log_library.exp()
        g_library = fused_gradient(x, scale, library, theta, pi[0] if pi else None)
        torch.mm(scale.product, self.layers[0].weight, out=g_h)
        if pi:
            g_h.addmm_(pi[0].product, self.layers[1].weight)
        return g_library


def can_use_kernels(cvae: GeneNetwork, x: Tensor) -> bool:
    """Whether a fused head serves this network."""
    architecture = cvae.architecture
    frozen = architecture.dispersion in ("gene", "gene-label")
    known = can_fuse(x, architecture.likelihood, wants_theta=False)
    return frozen and known and not cvae.head.softplus_scale


class SharedHead:
    """A head whose cells are shared out among threads where that pays."""

    def __init__(self, head: SharedOut, threads: int) -> None:
        self.head, self.threads = head, threads
        # A thread's products are shared out among as many threads as it is told, all by default.
        self.others = (
            ThreadPoolExecutor(threads - 1, initializer=torch.set_num_threads, initargs=(1,))
            if threads > 1
            else None
        )

    def __call__(self, given: HeadInput) -> HeadGradients:
        """For these cells, part by part."""
        n = len(given.h)
        n_parts = max(1, min(self.threads, n * self.head.n_outputs // SMALLEST_PART))
        if self.others is None or n_parts == 1:
            return self.head(given)
        cuts = [n * i // n_parts for i in range(n_parts + 1)]
        parts = [given.part(slice(a, b)) for a, b in pairwise(cuts)]
        waiting = [self.others.submit(self.head, part) for part in parts[1:]]
        return _joined([self.head(parts[0]), *(each.result() for each in waiting)])


def _joined(parts: Sequence[HeadGradients]) -> HeadGradients:
    thetas = [part.log_theta for part in parts if part.log_theta is not None]
    return HeadGradients(
        torch.cat([part.h for part in parts]),
        torch.cat([part.log_library for part in parts]),
        torch.cat(thetas) if thetas else None,
        [added(sums) for sums in zip(*(part.rows for part in parts), strict=True)],
    )
