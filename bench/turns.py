"""Surgery from canonical counts by what the ELBO wants, in turns beside something slower."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench import hosted
from bench.held_out import HeldOut
from bench.measure import spread
from models_store.recipe import RECIPES, Recipe
from worker.grafting import GroupFit, QuerySurgery

CHECKPOINTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 200, 250, 300, 350, 400)
"""Epochs after which an ELBO is taken, of either side."""
RECIPE = RECIPES["converged"]
"""What the ELBO wants, with its own rule when to stop."""


@dataclass(frozen=True)
class Turn:
    """Seconds since the canonical counts, up to each moment."""

    projected: float
    first_step: float
    epochs: list[float]
    """Up to the end of each; the last ends the fit."""


class OurTurns:
    """One surgery, again and again."""

    def __init__(self, surgery: QuerySurgery) -> None:
        self.surgery = surgery
        fit = self._fit(RECIPE)[0].fit  # compiles what is compiled once
        assert fit is not None
        self.n_epochs = fit.epochs
        self.turns: list[Turn] = []

    def take(self) -> None:
        began, ticks = time.perf_counter(), []
        projected = self.surgery.project(hosted.quiet)
        seen = time.perf_counter()
        self.surgery.fit(projected, RECIPE, lambda done: ticks.append((done, time.perf_counter())))
        ended = time.perf_counter()
        assert RECIPE.max_epochs is not None
        starts = [done * RECIPE.max_epochs for done, _ in ticks]
        ends = [
            next(at for start, (_, at) in zip(starts, ticks, strict=True) if start >= epoch - 1e-6)
            for epoch in range(1, self.n_epochs)
        ]
        since = [end - began for end in (*ends, ended)]
        self.turns.append(Turn(seen - began, ticks[0][1] - began, since))

    def seconds(self, epoch: int) -> dict[str, float]:
        """From canonical counts to the end of an epoch."""
        return spread([turn.epochs[epoch - 1] for turn in self.turns])

    def curve(self, held_out: HeldOut) -> list[list[float]]:
        """Epochs, median seconds and ELBO, of the start and up to where the fit stops.

        A fit of more epochs begins like one of fewer, so the weights at a checkpoint are those of
        a fit of so many epochs.
        """
        until_first = spread([turn.first_step for turn in self.turns])["median"]
        until_stop = [epoch for epoch in CHECKPOINTS if epoch < self.n_epochs]
        return [
            [
                epoch,
                self.seconds(epoch)["median"] if epoch else until_first,
                self._elbo(RECIPE.model_copy(update={"max_epochs": epoch}), held_out),
            ]
            for epoch in (0, *until_stop, self.n_epochs)
        ]

    def figures(self, held_out: HeldOut) -> dict[str, Any]:
        epochs = [(turn.epochs[-1] - turn.first_step) / self.n_epochs for turn in self.turns]
        curve = self.curve(held_out)
        return {
            "epochs": self.n_epochs,
            "seconds": self.seconds(self.n_epochs),
            "elbo": curve[-1][2],
            "curve": curve,
            "turns": len(self.turns),
            "parts": {
                "projecting": spread([turn.projected for turn in self.turns]),
                "before the first step": spread(
                    [turn.first_step - turn.projected for turn in self.turns]
                ),
                "an epoch": spread(epochs),
            },
        }

    def _fit(self, recipe: Recipe) -> list[GroupFit]:
        return self.surgery.fit(self.surgery.project(hosted.quiet), recipe, hosted.quiet)

    def _elbo(self, recipe: Recipe, held_out: HeldOut) -> float:
        weights: dict[str, Tensor] = self.surgery.weights(self._fit(recipe))
        return round(held_out.elbo(weights), 3)
