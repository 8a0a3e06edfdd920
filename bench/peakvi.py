"""Seconds per epoch of PEAKVI beside scvi-tools itself, alternating in one run.

Recipe `scvi-tools` at its minibatch of 128, and the default recipe at its own.
"""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from bench.measure import keep, spread
from models_store.blocks import block_ranges
from models_store.cells import Cells
from models_store.encoding import join_projections, project_block
from models_store.manifest import Architecture
from models_store.peakvi import PEAKVI
from models_store.recipe import RECIPES, Recipe
from worker.fitting import fit
from worker.training_cells import TrainingCells

N_CELLS, N_REGIONS, DENSITY = 4_000, 10_000, 0.05
EPOCHS = 3
ROUNDS = 5
OPTIONS = {"encode_covariates": True, "deeply_inject_covariates": True}
QUIET = {"enable_progress_bar": False, "logger": False, "accelerator": "cpu"}


def run() -> None:
    torch.set_num_threads(2)
    cells = _simulate(N_CELLS, ["query"], seed=1)
    theirs = _theirs(cells, _simulate(1000, ["a", "b"], seed=2))
    network, group = _ours(torch.from_numpy(cells.X.toarray()))
    same = RECIPES["scvi-tools"].model_copy(update={"max_epochs": EPOCHS})
    own = RECIPES["default"].model_copy(
        update={"max_epochs": EPOCHS, "held_out": 0.0, "patience": 0}
    )
    ways = {
        "scvi-tools": lambda: _their_epochs(theirs),
        "cellgraft": lambda: _our_epochs(network, group, same),
        "cellgraft, default": lambda: _our_epochs(network, group, own),
    }
    for each in ways.values():
        each()
    clock: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, epochs in ways.items():
            began = time.process_time()
            clock[name].append(epochs())
            processor[name].append((time.process_time() - began) / EPOCHS)
    figures = {name: spread(found) for name, found in clock.items()}
    used = {name: spread(found) for name, found in processor.items()}
    keep(
        "epochs-peakvi",
        {
            "cells": N_CELLS,
            "regions": N_REGIONS,
            **figures,
            "times_faster": _ratio(figures, "cellgraft"),
            "own_times_faster": _ratio(figures, "cellgraft, default"),
            # On a machine with other work the clock counts that too.
            "processor_seconds": used,
            "times_less_processor": _ratio(used, "cellgraft"),
        },
    )


def _ratio(figures: dict[str, dict[str, Any]], name: str) -> float:
    return round(figures["scvi-tools"]["median"] / figures[name]["median"], 2)


def _simulate(n_cells: int, batches: list[str], *, seed: int) -> anndata.AnnData:
    """Regions that are open at random, some more than others, each in few cells."""
    rng = np.random.default_rng(seed)
    openness = np.clip(np.random.default_rng(0).exponential(DENSITY, N_REGIONS), 0, 0.9)
    x = (rng.random((n_cells, N_REGIONS)) < openness).astype(np.float32)
    obs = pd.DataFrame({"batch": rng.choice(batches, n_cells)}, index=map(str, range(n_cells)))
    return anndata.AnnData(sp.csr_matrix(x), obs=obs)


def _theirs(cells: anndata.AnnData, onto: anndata.AnnData) -> Any:
    """scvi-tools' query model."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    import scvi

    scvi.model.PEAKVI.setup_anndata(onto, batch_key="batch")
    made = scvi.model.PEAKVI(onto, **OPTIONS)
    made.train(max_epochs=1, train_size=1.0, early_stopping=False, **QUIET)
    return scvi.model.PEAKVI.load_query_data(cells.copy(), made)


def _their_epochs(model: Any) -> float:
    began = time.perf_counter()
    settings = {"train_size": 1.0, "early_stopping": False, "weight_decay": 0.0}
    model.train(max_epochs=EPOCHS, **settings, **QUIET)
    return (time.perf_counter() - began) / EPOCHS


def _ours(x: torch.Tensor) -> tuple[PEAKVI, TrainingCells]:
    torch.manual_seed(0)
    n_hidden = int(N_REGIONS**0.5)
    architecture = Architecture(
        n_genes=0,
        n_regions=N_REGIONS,
        n_hidden=n_hidden,
        n_latent=int(n_hidden**0.5),
        log_variational=False,
    )
    network = PEAKVI(architecture, n_categories=[2]).eval()
    new = (2,)  # the first batch after the reference's two
    blocks = [project_block(network, Cells(x[a:b], new)) for a, b in block_ranges(len(x))]
    return network, TrainingCells(Cells(x, new), join_projections(blocks))


def _our_epochs(network: PEAKVI, group: TrainingCells, recipe: Recipe) -> float:
    began = time.perf_counter()
    fit(network, group, recipe, n_new=[1], library_prior=None, seed=0, tick=lambda done: None)
    return (time.perf_counter() - began) / EPOCHS
