"""One fold of a search: a network that never saw some batches, onto which they are mapped."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from safetensors.torch import save

from models_store.bundle import WEIGHTS_FILE
from models_store.cvae import CVAE
from models_store.manifest import Covariate, LabelLevel, Manifest
from models_store.recipe import Recipe
from models_store.recipe_evidence import Fold
from worker.alignment import Index
from worker.grafting import Progress
from worker.known_cells import KnownCells
from worker.labels import label_names
from worker.obs import category_names
from worker.recipe_trials import Ground
from worker.training_plan import TrainingPlan

MOST_TRAINING_CELLS = 100_000
"""Of a fold's network: more would tell recipes apart no better."""
MOST_REFERENCE_CELLS = 20_000
"""Among which neighbours are looked for."""
MOST_QUERY_CELLS = 20_000
"""That are mapped: a fit sees no more of them."""
SMALL_QUERY = 100
"""Cells of the sample that stands for a small query."""
TRAINING_SHARE = 0.7
"""Of a fold's seconds, about."""


@dataclass(frozen=True)
class Halves:
    """The cells of a fold, ascending, by their place among all."""

    training: Index
    reference: Index
    query: Index
    sample: Index
    """Some of the query; none where that is hardly larger."""


def try_recipes(
    manifest: Manifest,
    cells: KnownCells,
    batches: tuple[str, ...],
    recipes: Mapping[str, Recipe],
    plan: TrainingPlan,
    tick: Progress,
) -> Fold:
    """Train on the other batches, map these by every recipe, and judge.

    Args:
        manifest: of the reference, whose genes and sizes the network gets.
        cells: of all batches.
        batches: those to hold out.
        recipes: by what the trials are to call them.
        plan: how the reference trains.
        tick: called with the share done; raises to cancel.
    """
    halves = divide(cells, batches, plan.seed)
    manifest = _without(manifest, cells, halves.training)
    began = time.monotonic()
    cvae = _network(manifest, cells, halves, plan, lambda share: tick(TRAINING_SHARE * share))
    seconds = time.monotonic() - began
    manifest = manifest.model_copy(update={"files": {WEIGHTS_FILE: _digest(cvae)}})
    ground = Ground.of(manifest, cvae, cells, halves.reference, plan.seed)
    trials = ground.trials(
        {"all": halves.query, "sample": halves.sample},
        recipes,
        lambda share: tick(TRAINING_SHARE + (1 - TRAINING_SHARE) * share),
    )
    return Fold(
        batches=batches,
        n_cells=int(np.isin(cells.batch, batches).sum()),
        n_training_cells=len(halves.training),
        seconds=round(seconds, 1),
        trials=tuple(trials),
    )


def divide(cells: KnownCells, batches: tuple[str, ...], seed: int) -> Halves:
    """Which cells train, which are looked among, and which are mapped."""
    rng = np.random.default_rng(seed)
    held_out = np.isin(cells.batch, batches)
    training = _some(np.flatnonzero(~held_out), MOST_TRAINING_CELLS, rng)
    query = _some(np.flatnonzero(held_out), MOST_QUERY_CELLS, rng)
    return Halves(
        training=training,
        reference=_some(training, MOST_REFERENCE_CELLS, rng),
        query=query,
        sample=_some(query, SMALL_QUERY if len(query) >= 2 * SMALL_QUERY else 0, rng),
    )


def _some(cells: Index, most: int, rng: np.random.Generator) -> Index:
    return cells if len(cells) <= most else np.sort(rng.choice(cells, most, replace=False))


def _network(
    manifest: Manifest, cells: KnownCells, halves: Halves, plan: TrainingPlan, tick: Progress
) -> CVAE:
    """Trained on all cells that have counts; none is kept to judge the network itself."""
    cvae = plan.draw(manifest)
    training = cells.training_cells(manifest, halves.training, plan.device)
    plan.train(cvae, manifest, training, tick, n_cells=len(halves.training))
    for parameter in cvae.parameters():
        parameter.requires_grad_(False)
    return cvae


def _without(manifest: Manifest, cells: KnownCells, training: Index) -> Manifest:
    """The manifest of a reference that consists of these cells alone, with the same genes."""
    obs = cells.obs.iloc[training]

    def known(covariate: Covariate, names: set[str]) -> Covariate:
        return covariate.model_copy(update={"categories": _kept(covariate.categories, names)})

    extra = [
        known(each, set(category_names(obs[each.key or ""]))) for each in manifest.extra_covariates
    ]
    return manifest.model_copy(
        update={
            "batch": known(manifest.batch, set(cells.batch[training].tolist())),
            "extra_covariates": tuple(extra),
            "labels": _levels(manifest, cells, training),
        }
    )


def _levels(manifest: Manifest, cells: KnownCells, training: Index) -> tuple[LabelLevel, ...]:
    """With those labels alone at the first level that a network of these cells can have learnt."""
    if not manifest.labels:
        return ()
    first, *others = manifest.labels
    column = cells.obs[first.key].iloc[training]
    of_kind = manifest.kind == "scanvi"
    names = label_names(column, manifest.unlabeled_category) if of_kind else category_names(column)
    kept = LabelLevel(key=first.key, categories=_kept(first.categories, set(names.dropna())))
    return (kept, *others)


def _kept(categories: tuple[str, ...], names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in categories if name in names)


def _digest(cvae: CVAE) -> str:
    """Of the weights, from which the seeds of fits follow as from a bundle's."""
    state = {name: t.contiguous().cpu() for name, t in cvae.state_dict().items() if t.numel()}
    return hashlib.sha256(save(state)).hexdigest()
