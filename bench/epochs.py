"""Seconds per epoch of recipe `scvi-tools`, beside scvi-tools itself, alternating in one run."""

from __future__ import annotations

import time

import torch

from bench import yardstick
from bench.measure import keep, spread
from bench.simulated import simulate
from models_store.blocks import block_ranges
from models_store.cells import Cells
from models_store.encoding import join_projections, project_block
from models_store.manifest import Architecture, Likelihood
from models_store.recipe import RECIPES
from models_store.scvi import SCVI
from worker.fitting import fit
from worker.training_cells import TrainingCells

N_CELLS = 10_000
EPOCHS = 15
ROUNDS = 3


def run() -> None:
    torch.set_num_threads(2)
    cells = simulate(N_CELLS, ["query"], seed=1)
    onto = simulate(1000, ["a", "b"], seed=2)
    for likelihood in ("nb", "zinb"):
        theirs = yardstick.query(
            cells.copy(), yardstick.reference(onto.copy(), likelihood=likelihood, epochs=1)
        )
        group, network = _ours(torch.from_numpy(cells.X.toarray()), likelihood)
        yardstick.seconds_per_epoch(theirs, 1)
        _seconds_per_epoch(network, group, 1)
        seconds: dict[str, list[float]] = {"scvi-tools": [], "cellgraft": []}
        for _ in range(ROUNDS):
            seconds["scvi-tools"].append(yardstick.seconds_per_epoch(theirs, EPOCHS))
            seconds["cellgraft"].append(_seconds_per_epoch(network, group, EPOCHS))
        figures = {name: spread(values) for name, values in seconds.items()}
        ratio = figures["scvi-tools"]["median"] / figures["cellgraft"]["median"]
        keep(f"epochs-{likelihood}", {**figures, "times_faster": round(ratio, 2)})


def _ours(x: torch.Tensor, likelihood: Likelihood) -> tuple[TrainingCells, SCVI]:
    torch.manual_seed(0)
    network = SCVI(Architecture(n_genes=x.shape[1], likelihood=likelihood), n_categories=[2]).eval()
    new = (2,)  # the first batch after the reference's two
    blocks = [project_block(network, Cells(x[a:b], new)) for a, b in block_ranges(len(x))]
    return TrainingCells(Cells(x, new), join_projections(blocks)), network


def _seconds_per_epoch(network: SCVI, group: TrainingCells, epochs: int) -> float:
    recipe = RECIPES["scvi-tools"].model_copy(update={"max_epochs": epochs})
    began = time.perf_counter()
    fit(network, group, recipe, n_new=[1], library_prior=None, seed=0, tick=lambda done: None)
    return (time.perf_counter() - began) / epochs
