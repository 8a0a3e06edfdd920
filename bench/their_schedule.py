"""scvi-tools' two schedules of surgery as recipes of our engine, whose steps are the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from models_store.recipe import RECIPES, Recipe
from models_store.scvi import SCVI
from worker.plateau import Plateau
from worker.watch import Watch

TWO_HUNDRED = RECIPES["scvi-tools"].model_copy(update={"max_epochs": 200, "held_out": 0.1})
"""Its default: a KL weight that rises over 400 epochs, and a tenth of the cells unused."""
PATIENCE = 45
EARLY_STOPPED = TWO_HUNDRED.model_copy(
    update={"max_epochs": 400, "kl_warmup_epochs": 50, "patience": PATIENCE}
)


class EarlyStopping(Plateau):
    """Stops after 45 epochs without a better held-out ELBO, and keeps the last weights.

    As in scvi-tools, each evaluation draws its own noise, once per cell, and any gain counts.
    """

    def __init__(self, cvae: SCVI, weights: Sequence[Tensor], watch: Watch, recipe: Recipe) -> None:
        n_training = len(watch.training)
        # A watch repeats few cells; held out are a ninth as many as learn.
        once = watch.group.rows(slice(0, max(1, n_training // 9)))
        super().__init__(cvae, weights, replace(watch, group=once), recipe)
        self.steps_of_epoch = -(-n_training // recipe.minibatch_size)
        self.best = -torch.inf

    @property
    def is_over(self) -> bool:
        return self.stale >= self.recipe.patience

    def after_step(self, optimiser: torch.optim.Optimizer) -> None:
        self.step += 1
        if self.step % self.steps_of_epoch == 0:
            self.evaluate(optimiser)

    def evaluate(self, optimiser: torch.optim.Optimizer) -> None:
        self.watch.noise_seed += 1
        score = self.watch.score(self.cvae, self.recipe)
        self.stale = 0 if score > self.best else self.stale + 1
        self.best = max(self.best, score)

    def restore_best(self) -> None:
        """scvi-tools keeps the last."""
