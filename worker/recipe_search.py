"""The recipe of a reference, found when it is made: candidates on batches that are held out."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from models_store.manifest import Manifest
from models_store.recipe import CANDIDATES, RECIPES, told_apart
from models_store.recipe_evidence import RecipeEvidence
from worker.countdown import Countdown
from worker.held_out_batches import held_out_batches
from worker.known_cells import NO_NAME, KnownCells
from worker.orders import Report
from worker.recipe_choice import FORWARD, choose
from worker.recipe_fold import try_recipes
from worker.training_plan import TrainingPlan

STAGE = "judging recipes"
FEWEST_CELLS = 1_000
"""With fewer, the folds say more of chance than of recipes, and a small build would take thrice as
long for it."""
SECONDS_OF_A_FOLD = 1.3
"""Beside those of the reference's own training, about."""


@dataclass(frozen=True)
class RecipeSearch:
    """The batches of each fold, or the reason why there is none."""

    manifest: Manifest
    cells: KnownCells | None
    folds: tuple[tuple[str, ...], ...] = ()
    against: str = ""

    @property
    def begin(self) -> float:
        """Share of the time of training and searching at which the search begins."""
        return 1 / (1 + SECONDS_OF_A_FOLD * len(self.folds))

    def run(
        self, plan: TrainingPlan, report: Report, *, begin: float, end: float
    ) -> RecipeEvidence:
        """The figures by which a default recipe is chosen, or why there are none.

        Args:
            plan: how the reference trains, as the network of each fold does.
            report: told how far it has come and how long it will take; raises to cancel.
            begin: the progress of the whole job so far.
            end: the same when the search is done.
        """
        if not self.folds or self.cells is None:
            return RecipeEvidence(reason=f"The release's, without a search: {self.against}.")
        began = time.monotonic()
        tick = Countdown(report, STAGE, begin=begin, end=end)
        candidates = told_apart(CANDIDATES)
        # Its ELBO is then of the cells by which the candidates are judged; nothing else changes.
        forward = RECIPES["forward"].model_copy(update={"held_out": CANDIDATES[0].held_out})
        recipes = {FORWARD: forward, **candidates}
        n = len(self.folds)
        folds = [
            try_recipes(
                self.manifest,
                self.cells,
                batches,
                recipes,
                plan,
                lambda share, at=at: tick((at + share) / n),  # type: ignore[misc]
            )
            for at, batches in enumerate(self.folds)
        ]
        choice = choose(folds, list(candidates))
        return RecipeEvidence(
            reason=choice.reason,
            chosen=choice.recipe,
            candidates=candidates,
            folds=tuple(folds),
            seconds=round(time.monotonic() - began, 1),
        )


def plan_search(manifest: Manifest, cells: KnownCells | None, wanted: str | None) -> RecipeSearch:
    """Choose the batches to hold out.

    Args:
        manifest: of a reference whose genes, covariates and labels are known.
        cells: its own; None where they came without counts, or without a column of batches.
        wanted: `off` for no search.
    """
    against = _against(manifest, cells, wanted)
    if against or cells is None:
        return RecipeSearch(manifest, cells, against=against)
    folds = [each for each in held_out_batches(cells) if _is_learnable(manifest, cells, each)]
    if not folds:
        against = "too little would be left to learn from without any batch"
    return RecipeSearch(manifest, cells, tuple(folds), against)


def _against(manifest: Manifest, cells: KnownCells | None, wanted: str | None) -> str:
    """Why there is to be no search; nothing where there may be one."""
    if wanted == "off":
        return "it was turned off"
    if manifest.input == "continuous":
        return "the input is continuous"
    if not manifest.surgery_has_effect:
        return "surgery cannot change a latent of this reference"
    if len(manifest.batch.categories) < 2:
        return "there is one batch, and none can be held out"
    if cells is None:
        return "there are no cells with counts and batches"
    if len(cells) < FEWEST_CELLS:
        return f"{len(cells):,} cells are fewer than {FEWEST_CELLS:,}"
    factors = (manifest.size_factor_key, manifest.depth_key)
    if any(key is not None and key not in cells.obs for key in factors):
        return "the cells came without size factors"
    return ""


def _is_learnable(manifest: Manifest, cells: KnownCells, batches: tuple[str, ...]) -> bool:
    """SCANVI tells labels apart: it needs two."""
    left = np.unique(cells.labels[~np.isin(cells.batch, batches)])
    return manifest.kind != "scanvi" or len(left[left != NO_NAME]) >= 2
