"""How a build's options say that a network trains: the reference's, and those of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from models_store.cells import Cells
from models_store.cvae import CVAE
from models_store.kinds import untrained
from models_store.manifest import Manifest
from models_store.scanvi import SCANVI
from models_store.scvi import SCVI
from worker.kind_options import OF_REGIONS
from worker.label_training import train_after_scvi
from worker.reference_training import (
    OF_PROTEINS,
    WARMUP_SHARE,
    Optimiser,
    Schedule,
    Tick,
    TrainedReference,
    default_epochs,
    train_reference,
)
from worker.reference_training import OF_REGIONS as REGION_OPTIMISER

WARMUP_EPOCHS = 50
"""Of MULTIVI at most, as in scvi-tools: the epochs over which the KL weight rises to 1."""


@dataclass(frozen=True)
class TrainingPlan:
    """What decides a network's weights beside its cells and its sizes."""

    device: str
    seed: int = 0
    max_epochs: int | None = None
    """None: `default_epochs`, and `region_epochs` for kinds of regions."""
    pretraining: bool = False

    @classmethod
    def of(cls, options: dict[str, Any], device: str) -> TrainingPlan:
        return cls(
            device=device,
            seed=options.get("seed", 0),
            max_epochs=options.get("max_epochs"),
            pretraining=bool(options.get("pretraining")),
        )

    def draw(self, manifest: Manifest) -> CVAE:
        """The untrained network. What it draws in training follows from the seed as well."""
        torch.manual_seed(self.seed)
        return untrained(manifest).to(self.device)

    def train(
        self,
        cvae: CVAE,
        manifest: Manifest,
        training: Cells,
        tick: Tick,
        *,
        n_cells: int,
        held_out: Cells | None = None,
    ) -> TrainedReference:
        """Train in place, for as long as so many cells need; see `train_reference`."""
        schedule = self._schedule(manifest, n_cells)
        if self.pretraining and isinstance(cvae, SCANVI):
            plain = SCVI.of(manifest).to(self.device)
            return train_after_scvi(cvae, plain, training, held_out, schedule, tick)
        return train_reference(cvae, training, held_out, schedule, tick)

    def _schedule(self, manifest: Manifest, n_cells: int) -> Schedule:
        of_regions = manifest.kind in OF_REGIONS
        epochs = region_epochs(n_cells) if of_regions else default_epochs(n_cells)
        epochs, warmup = self.max_epochs or epochs, WARMUP_SHARE
        sums_regions = of_regions or manifest.kind == "multivi"
        optimiser = REGION_OPTIMISER if sums_regions else Optimiser()
        if manifest.kind == "totalvi":
            optimiser = OF_PROTEINS
        if manifest.kind == "multivi":
            warmup = min(warmup, WARMUP_EPOCHS / epochs)
        return Schedule(epochs, self.seed, warmup, optimiser)


def region_epochs(n_cells: int) -> int:
    """Fewer than other kinds need, about 560 steps or 20 epochs.

    With so many regions and so little KL a network learns its own cells by heart when it goes on
    (decision 0071).
    """
    return max(20, min(200, round(72_000 / n_cells)))
