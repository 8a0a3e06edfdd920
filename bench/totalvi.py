"""totalVI beside scvi-tools itself: seconds per epoch of a query, alternating in one run."""

from __future__ import annotations

import time
from typing import Any

import anndata
import numpy as np
import pandas as pd
import torch

from bench import yardstick
from bench.measure import keep, spread
from bench.simulated import simulate
from models_store.blocks import block_ranges
from models_store.cells import Cells
from models_store.encoding import join_projections, project_block
from models_store.manifest import Architecture
from models_store.protein_panels import with_measured
from models_store.recipe import RECIPES, Recipe
from models_store.totalvi import TOTALVI
from worker.fitting import fit
from worker.training_cells import TrainingCells

N_CELLS, N_PROTEINS = 5000, 14
MINIBATCH = 256
"""Of scvi-tools' TOTALVI."""
EPOCHS, ROUNDS = 4, 3
SETTINGS = {"n_layers_encoder": 2, "use_layer_norm": "both", "use_batch_norm": "none"}
QUIET = {
    "early_stopping": False,
    "reduce_lr_on_plateau": False,
    "train_size": 1.0,
    **yardstick.QUIET,
}


def run() -> None:
    torch.set_num_threads(2)
    cells, onto = _with_proteins(N_CELLS, ["query"], 1), _with_proteins(1000, ["a", "b"], 2)
    theirs = _query(cells, _reference(onto))
    network, group = _ours(cells)
    _compare(theirs, group, network)


def _compare(theirs: Any, group: TrainingCells, network: TOTALVI) -> None:
    same = RECIPES["scvi-tools"].model_copy(
        update={"max_epochs": EPOCHS, "minibatch_size": MINIBATCH}
    )
    # No cell held out and no early end, so that an epoch is one of all cells here too.
    own = RECIPES["default"].model_copy(
        update={"max_epochs": EPOCHS, "held_out": 0.0, "patience": 0}
    )
    seconds: dict[str, list[float]] = {"scvi-tools": [], "cellgraft": [], "cellgraft, default": []}
    _theirs(theirs, 1)
    _ours_seconds(network, group, same)
    for _ in range(ROUNDS):
        seconds["scvi-tools"].append(_theirs(theirs, EPOCHS))
        seconds["cellgraft"].append(_ours_seconds(network, group, same))
        seconds["cellgraft, default"].append(_ours_seconds(network, group, own))
    figures: dict[str, Any] = {name: spread(found) for name, found in seconds.items()}
    slow = figures["scvi-tools"]["median"]
    figures["times_faster"] = round(slow / figures["cellgraft"]["median"], 2)
    figures["own_times_faster"] = round(slow / figures["cellgraft, default"]["median"], 2)
    keep("epochs-totalvi", {"cells": N_CELLS, "proteins": N_PROTEINS, **figures})


def _with_proteins(n_cells: int, batches: list[str], seed: int) -> anndata.AnnData:
    """Genes as in other benchmarks, and proteins of which each type of cell has its own."""
    cells = simulate(n_cells, batches, seed=seed)
    rng, world = np.random.default_rng(seed), np.random.default_rng(0)
    has = world.random((8, N_PROTEINS)) < 0.4
    kind = cells.obs["cell_type"].str.removeprefix("type ").astype(int).to_numpy()
    mean = rng.lognormal(1.5, 0.4, (n_cells, N_PROTEINS)) * np.where(has[kind], 15, 1)
    names = [f"protein {i}" for i in range(N_PROTEINS)]
    counts = rng.poisson(mean).astype(np.float32)
    cells.obsm["proteins"] = pd.DataFrame(counts, cells.obs_names, names)
    return cells


def _reference(onto: anndata.AnnData) -> Any:
    scvi = yardstick._scvi()
    scvi.model.TOTALVI.setup_anndata(
        onto, protein_expression_obsm_key="proteins", batch_key="batch"
    )
    made = scvi.model.TOTALVI(onto, **SETTINGS)
    made.train(max_epochs=1, **QUIET)
    return made


def _query(cells: anndata.AnnData, onto: Any) -> Any:
    return yardstick._scvi().model.TOTALVI.load_query_data(cells, onto)


def _theirs(mapped: Any, epochs: int) -> float:
    began = time.perf_counter()
    mapped.train(max_epochs=epochs, plan_kwargs={"weight_decay": 0.0}, **QUIET)
    return (time.perf_counter() - began) / epochs


def _ours(cells: anndata.AnnData) -> tuple[TOTALVI, TrainingCells]:
    torch.manual_seed(0)
    y = cells.obsm["proteins"].to_numpy()
    x = torch.from_numpy(np.concatenate([cells.X.toarray(), y], axis=1))
    architecture = Architecture.model_validate(
        {
            "n_genes": cells.n_vars,
            "n_proteins": N_PROTEINS,
            "n_hidden": 256,
            "n_latent": 20,
            "n_layers_decoder": 1,
        }
    )
    network = TOTALVI(architecture, n_categories=[2]).eval()
    new = (2,)  # the first batch after the reference's two
    blocks = [project_block(network, Cells(x[a:b], new)) for a, b in block_ranges(len(x))]
    them = with_measured(Cells(x, new), N_PROTEINS)
    return network, TrainingCells(them, join_projections(blocks))


def _ours_seconds(network: TOTALVI, group: TrainingCells, recipe: Recipe) -> float:
    began = time.perf_counter()
    fit(network, group, recipe, n_new=[1], library_prior=None, seed=0, tick=lambda done: None)
    return (time.perf_counter() - began) / (recipe.max_epochs or 1)
