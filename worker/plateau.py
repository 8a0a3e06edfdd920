"""When a fit slows down, and when it ends: at plateaus of what it watches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models_store.cvae import CVAE
from models_store.recipe import Recipe
from worker.watch import Watch

LEARNING_RATE_DROP = 0.2
DROPS = 2
STEPS_BETWEEN_EVALUATIONS = 10
"""An evaluation costs about as much as two steps do."""


class Plateau:
    """Remembers the best weights; slows down at a plateau, and ends at the last one."""

    def __init__(self, cvae: CVAE, weights: Sequence[Tensor], watch: Watch, recipe: Recipe) -> None:
        self.cvae, self.weights, self.watch, self.recipe = cvae, weights, watch, recipe
        self.step, self.stale, self.drops = 0, 0, 0
        self._keep(watch.score(cvae, recipe))

    @property
    def is_over(self) -> bool:
        return self.drops > DROPS

    def after_step(self, optimiser: torch.optim.Optimizer) -> None:
        self.step += 1
        if self.step % STEPS_BETWEEN_EVALUATIONS == 0:
            self.evaluate(optimiser)

    def evaluate(self, optimiser: torch.optim.Optimizer) -> None:
        score = self.watch.score(self.cvae, self.recipe)
        if score > self.best + self.recipe.tolerance * abs(self.best):
            self._keep(score)
            self.stale = 0
            return
        self.stale += 1
        if self.stale >= self.recipe.patience:
            self.stale, self.drops = 0, self.drops + 1
            for settings in optimiser.param_groups:
                settings["lr"] *= LEARNING_RATE_DROP

    def _keep(self, score: float) -> None:
        self.best = score
        self.best_weights = [p.detach().clone() for p in self.weights]

    @torch.no_grad()
    def restore_best(self) -> None:
        for parameter, best in zip(self.weights, self.best_weights, strict=True):
            parameter.copy_(best)
