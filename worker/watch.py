"""What a fit watches: the ELBO of cells that it does not learn from, and the prior of its rows."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models_store.blocks import judged_at_once
from models_store.cvae import CVAE, LossTerms
from models_store.recipe import Recipe
from models_store.surgery import penalised_rows
from worker.training_cells import TrainingCells

FEWEST_HELD_OUT = 5
"""With fewer cells to hold out, the fit watches the penalised objective of its own cells."""
MOST_HELD_OUT = 1000
EVALUATION_DRAWS = 256
"""A held-out ELBO averages at least so many noise draws, over cells and repeats."""


@torch.no_grad()
def penalty(cvae: CVAE, n_cells: int) -> float:
    """-log of a Gaussian prior on the query rows, per cell: Σ (w - mean)² / (2 spread²) / cells.

    Beside the mean loss of a cell this is maximum a posteriori: strength 1 is the prior that the
    reference's own batches suggest, for a batch of `n_cells`.
    """
    tables = penalised_rows(cvae)
    squares = (((rows - mean) ** 2).sum() / (2 * spread**2) for rows, mean, spread in tables)
    return float(sum(squares)) / n_cells


@dataclass
class Watch:
    """The cells and the noise by which a fit judges itself: the same at every evaluation."""

    group: TrainingCells
    noise_seed: int
    training: TrainingCells
    held_out: bool

    @classmethod
    def of(cls, group: TrainingCells, recipe: Recipe, seed: int) -> "Watch":
        n, device = len(group), group.cells.x.device
        aside = min(int(recipe.held_out * n), MOST_HELD_OUT)
        aside = aside if aside >= FEWEST_HELD_OUT else 0
        watched = torch.arange(aside or min(n, MOST_HELD_OUT), device=device)
        # Few cells are repeated, to be drawn for in one pass: a pass a draw would take seconds.
        watched = watched.repeat(max(1, math.ceil(EVALUATION_DRAWS / max(1, len(watched)))))
        training = group.rows(slice(aside, n))
        return cls(group.rows(watched), seed, training, held_out=aside > 0)

    @property
    def name(self) -> str:
        return "held-out ELBO" if self.held_out else "penalised ELBO"

    @torch.no_grad()
    def elbo(self, cvae: CVAE) -> float:
        """Mean ELBO of the watched cells at KL weight 1."""
        return self._mean(cvae, lambda terms: terms.elbo)

    @torch.no_grad()
    def score(self, cvae: CVAE, recipe: Recipe) -> float:
        """What must grow: the held-out ELBO, or the penalised one of the training cells.

        Known labels count in it as they do in the loss, and so does the KL divergence of z.
        """
        score = -self._mean(cvae, lambda terms: terms.loss(cvae.kl_share))
        if self.held_out:
            return score
        return score - recipe.penalty * penalty(cvae, recipe.cells_beside_prior(len(self.training)))

    def _mean(self, cvae: CVAE, figure: Callable[[LossTerms], Tensor]) -> float:
        """A mean over the watched cells, some at a time where they have very many features."""
        generator = torch.Generator().manual_seed(self.noise_seed)
        noise, n = cvae.draw_noise(len(self.group), generator), len(self.group)
        total, at_once = 0.0, judged_at_once(self.group.cells.x.shape[1])
        for start in range(0, n, at_once):
            rows = slice(start, min(start + at_once, n))
            cells, projection = cvae.minibatch(self.group.cells, rows), self.group.projection
            terms = cvae.loss_terms(cells, noise.rows(rows), projection.rows(rows))
            total += float(figure(terms)) * ((rows.stop - start) / n)
        return total
