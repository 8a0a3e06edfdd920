"""The step's gradients, recorded once on a GPU and replayed: one launch instead of some sixty.

A recording reads and writes fixed addresses. So the cells of a minibatch, noise and KL weight are
copied to where the recording reads them, and the gradients are always found in the same tensors.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from models_store.cells import Noise
from models_store.query_gradients import QueryGradients
from models_store.row_sums import Gradients
from models_store.scanvi import SCANVI

log = logging.getLogger(__name__)

WARM_UPS = 3
"""Steps before a recording, in which the libraries of the GPU choose their kernels."""


@dataclass(frozen=True)
class Recording:
    """What is read, what does the work again, and where its results stand."""

    index: Int[Tensor, " n"]
    noise: Noise
    kl_weight: Tensor
    replay: Callable[[], None]
    gradients: Gradients

    def fill(self, index: Tensor, noise: Noise, kl_weight: float) -> None:
        """Put a minibatch in the place of the last one."""
        self.index.copy_(index)
        for mine, theirs in ((self.noise.z, noise.z), (self.noise.library, noise.library)):
            if mine is not None and theirs is not None:
                mine.copy_(theirs)
        self.kl_weight.fill_(kl_weight)


class ReplayedGradients:
    """As the `QueryGradients` that it is made of; the gradients it gives last until the next call.

    Args:
        gradients: of the cells.
        size: cells of the minibatches that are recorded; others are computed as ever.
    """

    def __init__(self, gradients: QueryGradients, size: int) -> None:
        self.gradients, self.size = gradients, size
        self.recording: Recording | None = None
        self.records = can_record(gradients)

    def __call__(self, index: Int[Tensor, " n"], noise: Noise, kl_weight: float) -> Gradients:
        """Gradients of the mean loss of a minibatch."""
        if not self.records or len(index) != self.size:
            return self.gradients(index, noise, kl_weight)
        if self.recording is None:
            try:
                self.recording = record(self.gradients, index, noise, kl_weight)
            except RuntimeError as error:  # the step itself may be fine
                log.warning("steps are not recorded, and slower for it: %s", error)
                self.records = False
                return self.gradients(index, noise, kl_weight)
        self.recording.fill(index, noise, kl_weight)
        self.recording.replay()
        return self.recording.gradients


def can_record(gradients: QueryGradients) -> bool:
    """Whether nothing in the step depends on how many cells are of some kind.

    The labels of SCANVI do, and the digammas of a dispersion that learns.
    """
    learns_theta = gradients.cvae.architecture.dispersion in ("gene-batch", "gene-cell")
    return not isinstance(gradients.cvae, SCANVI) and not learns_theta


def record(gradients: QueryGradients, index: Tensor, noise: Noise, kl_weight: float) -> Recording:
    """Record the step for minibatches of this size. Off the GPU a replay computes it again."""
    library = None if noise.library is None else noise.library.clone()
    weight = noise.z.new_tensor(kl_weight)
    given = (index.clone(), Noise(noise.z.clone(), library), weight)
    if index.device.type != "cuda":
        found = gradients(*given)

        def again() -> None:
            for parameter, g in gradients(*given).items():
                found[parameter].copy_(g)

        return Recording(*given, again, found)
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            gradients(*given)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = gradients(*given)
    return Recording(*given, graph.replay, found)
