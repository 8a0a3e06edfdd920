"""Which network each kind of reference is, and what its query weights learn by."""

from collections.abc import Callable, Mapping

from torch import Tensor

from models_store.autograd_gradients import AutogradGradients
from models_store.cells import Cells, Noise, Projection, with_dense_counts
from models_store.cvae import CVAE
from models_store.manifest import Kind, Manifest
from models_store.multivi import MULTIVI
from models_store.multivi_gradients import MultiGradients
from models_store.peak_gradients import PeakGradients
from models_store.peakvi import PEAKVI
from models_store.poissonvi import POISSONVI
from models_store.query_gradients import QueryGradients
from models_store.replayed_gradients import ReplayedGradients
from models_store.row_sums import Gradients
from models_store.scanvi import SCANVI
from models_store.scvi import SCVI
from models_store.total_gradients import TotalGradients
from models_store.totalvi import TOTALVI

NETWORKS: Mapping[Kind, type[CVAE]] = {
    "scvi": SCVI,
    "scanvi": SCANVI,
    "peakvi": PEAKVI,
    "poissonvi": POISSONVI,
    "multivi": MULTIVI,
    "totalvi": TOTALVI,
}


def untrained(manifest: Manifest) -> CVAE:
    """The network that a manifest describes, with weights drawn at random."""
    return NETWORKS[manifest.kind].of(manifest)


StepGradients = Callable[[Tensor, Noise, float], Gradients]
"""Gradients of the mean loss of a minibatch, given its cells' positions, noise and KL weight."""


def step_gradients(
    grafted: CVAE, cells: Cells, projection: Projection, *, threads: int, minibatch_size: int
) -> StepGradients:
    """What a fit of these cells takes its steps by: in closed form where the kind has one.

    Args:
        grafted: the network, in eval mode.
        cells: all that it learns from.
        projection: theirs, by `CVAE.project`.
        threads: how many may share a step.
        minibatch_size: cells of most steps.
    """
    if isinstance(grafted, TOTALVI):
        return TotalGradients(grafted, cells, projection, threads=threads)
    if isinstance(grafted, PEAKVI):
        return PeakGradients(grafted, cells, projection, threads=threads)
    if isinstance(grafted, MULTIVI):
        return MultiGradients(grafted, cells, projection, threads=threads)
    if not isinstance(grafted, SCVI):
        return AutogradGradients(grafted, cells, projection)
    if grafted.device.type == "cpu":
        return QueryGradients(grafted, cells, projection, threads=threads)
    # What is replayed has the same shapes in every step, so its counts are dense.
    gradients = QueryGradients(grafted, with_dense_counts(cells), projection)
    return ReplayedGradients(gradients, minibatch_size)
