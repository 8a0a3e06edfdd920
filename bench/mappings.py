"""A reference that is trained for a benchmark, and where it maps a query by each way of surgery."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import anndata
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from bench.hosted import of_nowhere
from bench.their_schedule import EARLY_STOPPED, TWO_HUNDRED, EarlyStopping
from models_store.manifest import Manifest
from models_store.recipe import RECIPES, Recipe
from models_store.scvi import SCVI
from worker import fitting
from worker.alignment import AlignedCounts
from worker.grafting import ProjectedQuery, QuerySurgery
from worker.known_cells import KnownCells
from worker.reference_training import MINIBATCH, default_epochs
from worker.restraint import MOST_AMONG
from worker.training_plan import TrainingPlan

Float32 = npt.NDArray[np.float32]

MOST_STEPS = 800
"""Of a reference's training, about: a build takes up to seven times as many. Both sides map onto
the same network."""


@dataclass(frozen=True)
class BenchReference:
    """A trained network, and where its own cells are."""

    manifest: Manifest
    network: SCVI
    cells: anndata.AnnData
    latents: Float32

    @classmethod
    def train(cls, cells: anndata.AnnData, seed: int, kept: Path) -> BenchReference:
        """With the default architecture, on all cells; or as an earlier slice left it in `kept`."""
        manifest, known = _manifest(cells, seed), _known(cells)
        plan = TrainingPlan("cpu", seed, n_epochs(cells.n_obs))
        network, everything = plan.draw(manifest), np.arange(cells.n_obs)
        if kept.exists():
            network.load_state_dict(load_file(kept))
        else:
            training = known.training_cells(manifest, everything, "cpu")
            plan.train(network, manifest, training, _unheard, n_cells=cells.n_obs)
            save_file({k: v.contiguous() for k, v in network.state_dict().items()}, kept)
        for parameter in network.eval().parameters():
            parameter.requires_grad_(False)
        design = known.design(manifest, everything, as_query=False)
        own = QuerySurgery(manifest, network, known.counts, design)
        latents = own.encode(own.project(_unheard), None).mean.numpy()
        return cls(manifest, network, cells, latents)


def n_epochs(n_cells: int) -> int:
    return min(default_epochs(n_cells), math.ceil(MOST_STEPS / math.ceil(n_cells / MINIBATCH)))


class BenchQuery:
    """A query on a reference, projected once for all ways."""

    def __init__(self, reference: BenchReference, cells: anndata.AnnData) -> None:
        known, manifest = _known(cells), reference.manifest
        design = known.design(manifest, np.arange(cells.n_obs), as_query=True)
        latents = torch.from_numpy(reference.latents)
        among = latents[:: 1 + len(latents) // MOST_AMONG]
        network = reference.network
        self.surgery = QuerySurgery(manifest, network, known.counts, design, among=among)
        self.projected: ProjectedQuery = self.surgery.project(_unheard)

    def by(self, recipe: Recipe) -> Float32:
        """Latents of all cells."""
        fits = self.surgery.fit(self.projected, recipe, _unheard)
        return self.surgery.encode(self.projected, self.surgery.weights(fits)).mean.numpy()

    def early_stopped(self) -> Float32:
        with mock.patch.object(fitting, "Plateau", EarlyStopping):
            return self.by(EARLY_STOPPED)


OURS: Mapping[str, Callable[[BenchQuery], Float32]] = {
    name: lambda query, name=name: query.by(RECIPES[name])  # type: ignore[misc]
    for name in ("forward", "default", "converged")
}
THEIRS: Mapping[str, Callable[[BenchQuery], Float32]] = {
    "200 epochs": lambda query: query.by(TWO_HUNDRED),
    "early stopping": BenchQuery.early_stopped,
}
"""scvi-tools' schedules, stepped by our engine."""


def _known(cells: anndata.AnnData) -> KnownCells:
    batch, label, condition = (
        cells.obs[key].to_numpy(dtype=np.str_) for key in ("batch", "cell_type", "condition")
    )
    counts = AlignedCounts.of_panel(cells.X)
    return KnownCells(counts, cells.obs, "batch", batch, label, condition)


def _manifest(cells: anndata.AnnData, seed: int) -> Manifest:
    total = np.asarray(cells.X.sum(axis=0)).ravel() + 1e-3
    return Manifest.model_validate(
        {
            "name": "bench",
            "version": 1,
            "kind": "scvi",
            "architecture": {"n_genes": cells.n_vars},
            "genes": {"ids": tuple(cells.var_names)},
            "batch": {"key": "batch", "categories": tuple(sorted(set(cells.obs["batch"])))},
            "expected_expression": tuple(total / total.sum()),
            **of_nowhere(cells.n_obs, seed),
        }
    )


def _unheard(_share: float) -> None:
    """Nobody waits for it."""
