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
EPOCHS = 16
STOPPING = RECIPES["converged"]
RECIPE = STOPPING.model_copy(update={"held_out": 0.0, "patience": 0, "max_epochs": EPOCHS})
"""What the ELBO wants, at KL weight 1 and without a rule when to stop."""


@dataclass(frozen=True)
class Turn:
    """Seconds since the canonical counts, up to each moment."""

    projected: float
    first_step: float
    epochs: list[float]
    """Up to the end of each."""
    stopped: float
    """Of a whole fit that stops by itself."""


class OurTurns:
    """One surgery, again and again."""

    def __init__(self, surgery: QuerySurgery) -> None:
        self.surgery = surgery
        self._fit(RECIPE.model_copy(update={"max_epochs": 1}))  # compiles what is compiled once
        self.turns: list[Turn] = []

    def take(self) -> None:
        began, ticks = time.perf_counter(), []
        projected = self.surgery.project(hosted.quiet)
        seen = time.perf_counter()
        self.surgery.fit(projected, RECIPE, lambda done: ticks.append((done, time.perf_counter())))
        ended = time.perf_counter()
        ends = [
            next((at for done, at in ticks if done * EPOCHS >= epoch - 1e-6), ended)
            for epoch in range(1, EPOCHS + 1)
        ]
        again = time.perf_counter()
        self._fit(STOPPING)
        stopped = time.perf_counter() - again
        self.turns.append(
            Turn(seen - began, ticks[0][1] - began, [end - began for end in ends], stopped)
        )

    def seconds(self, epoch: int) -> dict[str, float]:
        """From canonical counts to the end of an epoch."""
        return spread([turn.epochs[epoch - 1] for turn in self.turns])

    def curve(self, held_out: HeldOut) -> list[list[float]]:
        """Epochs, median seconds and ELBO.

        A fit of more epochs begins like one of fewer, so the weights at a checkpoint are those of
        a fit of so many epochs.
        """
        until_first = spread([turn.first_step for turn in self.turns])["median"]
        return [
            [
                epoch,
                self.seconds(epoch)["median"] if epoch else until_first,
                self._elbo(RECIPE.model_copy(update={"max_epochs": epoch}), held_out),
            ]
            for epoch in (0, *CHECKPOINTS)
            if epoch <= EPOCHS
        ]

    def figures(self, held_out: HeldOut) -> dict[str, Any]:
        epochs = [(turn.epochs[-1] - turn.first_step) / EPOCHS for turn in self.turns]
        fit = self._fit(STOPPING)[0].fit
        assert fit is not None
        return {
            "curve": self.curve(held_out),
            "turns": len(self.turns),
            "parts": {
                "projecting": spread([turn.projected for turn in self.turns]),
                "before the first step": spread(
                    [turn.first_step - turn.projected for turn in self.turns]
                ),
                "an epoch": spread(epochs),
            },
            "with its own stop": {
                "seconds": spread([turn.stopped for turn in self.turns]),
                "epochs": fit.epochs,
                "elbo": self._elbo(STOPPING, held_out),
            },
        }

    def _fit(self, recipe: Recipe) -> list[GroupFit]:
        return self.surgery.fit(self.surgery.project(hosted.quiet), recipe, hosted.quiet)

    def _elbo(self, recipe: Recipe, held_out: HeldOut) -> float:
        weights: dict[str, Tensor] = self.surgery.weights(self._fit(recipe))
        return round(held_out.elbo(weights), 3)
