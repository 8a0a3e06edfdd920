"""Seconds from canonical counts to the held-out ELBO at which scvi-tools ends.

Both sides have the same reference (scvi-tools', its weights in our network), training cells and
held-out cells. Ours runs again and again while scvi-tools trains, whose clock then stands still.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import hosted, yardstick
from bench.held_out import DRAWS, HeldOut
from bench.measure import keep, spread
from bench.query_sets import SETS, QuerySet
from bench.turns import CHECKPOINTS, RECIPE, OurTurns
from models_store.scvi import SCVI
from tests.parity.convert import translate

REFERENCE_EPOCHS = 60
SCHEDULES: dict[str, dict[str, Any]] = {
    "": {"epochs": 200, "plan_kwargs": {"weight_decay": 0.0}},
    "stopping": {
        "epochs": 400,
        "plan_kwargs": {"n_epochs_kl_warmup": 50, "weight_decay": 0.0},
        "early_stopping": True,
        "check_val_every_n_epoch": 1,
    },
}
"""How scvi-tools trains: 200 epochs of its default schedule, or with early stopping."""
BARS = {"": (100, 300), "stopping": (20, 60)}
"""So many times faster: what must be, and what is wished for."""
TURNS_EVERY = 40
KEPT_FILES = "BENCH_FILES"
"""A folder where references stay from one run to the next."""


def run(name: str) -> None:
    """`name`: of the set, and of scvi-tools' schedule where that is not its default."""
    which, _, schedule = name.partition("-")
    cells = SETS[which]()
    if cells is None:
        sys.stdout.write(f"convergence-{name}: skipped, since its file is not in BENCH_DATA.\n")
        return
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(os.environ.get(KEPT_FILES, made)) / f"reference-{which}"
        onto = yardstick.kept_reference(cells.reference, folder, epochs=REFERENCE_EPOCHS)
    keep(f"convergence-{name}", _compare(cells, onto, schedule))


def _compare(cells: QuerySet, onto: Any, schedule: str) -> dict[str, Any]:
    manifest = hosted.manifest(cells.reference, kind="scvi", seed=0)
    network = SCVI.of(manifest)
    network.load_state_dict(translate(network, onto.module.state_dict()))
    ours = OurTurns(hosted.surgery(manifest, network, cells.query[cells.training].copy()))
    held_out = HeldOut(network, cells.query[cells.held_out].copy())
    mapped = yardstick.query(cells.query.copy(), onto)
    theirs = _train(mapped, cells, ours, held_out, **SCHEDULES[schedule]).figures(held_out)
    told = ours.figures(held_out)
    judged = _judge(theirs, told["curve"], ours, BARS[schedule])
    return {**_about(cells), "scvi-tools": theirs, "cellgraft": told, **judged}


def _about(cells: QuerySet) -> dict[str, Any]:
    return {
        "n_cells": len(cells.training),
        "n_genes": cells.query.n_vars,
        "n_held_out": len(cells.held_out),
        "draws": DRAWS,
        "reference_epochs": REFERENCE_EPOCHS,
        "recipe": RECIPE.model_dump(),
    }


def _train(
    mapped: Any, cells: QuerySet, ours: OurTurns, held_out: HeldOut, **options: Any
) -> _Theirs:
    theirs = _Theirs()

    def at_epoch(epoch: int, seconds: float) -> None:
        theirs.seconds.append(seconds)
        theirs.weights = held_out.query_weights_of(mapped.module.state_dict())
        if epoch in CHECKPOINTS:
            theirs.kept[epoch] = theirs.weights
        if epoch % TURNS_EVERY == 0:
            ours.take()

    yardstick.watched_training(
        mapped, (cells.training, cells.held_out), at_epoch=at_epoch, **options
    )
    return theirs


@dataclass
class _Theirs:
    """A training of scvi-tools: seconds up to the end of each epoch, weights at checkpoints."""

    seconds: list[float] = field(default_factory=list)
    kept: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def figures(self, held_out: HeldOut) -> dict[str, Any]:
        kept = self.kept | {len(self.seconds): self.weights}
        curve = [
            [epoch, round(self.seconds[epoch - 1], 2), round(held_out.elbo(weights), 3)]
            for epoch, weights in kept.items()
        ]
        each = [b - a for a, b in zip([0.0, *self.seconds], self.seconds, strict=False)]
        return {
            "epochs": len(self.seconds),
            "seconds": round(self.seconds[-1], 1),
            "seconds_per_epoch": spread(each),
            "elbo": curve[-1][2],
            "curve": curve,
        }


def _judge(
    theirs: dict[str, Any], curve: list[list[float]], ours: OurTurns, bars: tuple[int, int]
) -> dict[str, Any]:
    """When ours first is at or above the ELBO at which theirs ends."""
    bar, stretch = bars
    reached = next((int(epoch) for epoch, _, elbo in curve[1:] if elbo >= theirs["elbo"]), None)
    if reached is None:
        return {"reached": None, "bar": bar, "stretch": stretch, "passes": False}
    seconds = ours.seconds(reached)
    faster = {of: round(theirs["seconds"] / seconds[of], 1) for of in ("median", "max", "min")}
    return {
        "reached": {"epochs": reached, "seconds": seconds},
        "times_faster": {"median": faster["median"], "min": faster["max"], "max": faster["min"]},
        "bar": bar,
        "stretch": stretch,
        "passes": faster["median"] >= bar,
        "stretches": faster["median"] >= stretch,
    }
