"""Seconds per epoch beside scvi-tools itself, alternating in one run, and where ours go.

Recipe `scvi-tools` at its minibatch of 128, and for nb the default recipe at its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from bench import step_profile, yardstick
from bench.measure import keep, spread
from bench.simulated import simulate
from models_store.blocks import block_ranges
from models_store.cells import Cells
from models_store.encoding import join_projections, project_block
from models_store.manifest import Architecture, Likelihood
from models_store.recipe import RECIPES, Recipe
from models_store.scvi import SCVI
from worker.fitting import fit
from worker.training_cells import TrainingCells

N_CELLS = 10_000
EPOCHS = 15
ROUNDS = 3
OWN = "default"


def run() -> None:
    torch.set_num_threads(2)
    cells = simulate(N_CELLS, ["query"], seed=1)
    onto = simulate(1000, ["a", "b"], seed=2)
    x = torch.from_numpy(cells.X.toarray())
    for likelihood in ("nb", "zinb"):
        theirs = yardstick.query(
            cells.copy(), yardstick.reference(onto.copy(), likelihood=likelihood, epochs=1)
        )
        _compare(likelihood, theirs, *_ours(x, likelihood))


def _compare(likelihood: Likelihood, theirs: object, group: TrainingCells, network: SCVI) -> None:
    same = RECIPES["scvi-tools"].model_copy(update={"max_epochs": EPOCHS})
    # No cell held out and no early end, so that an epoch is one of all cells here too.
    own = RECIPES[OWN].model_copy(update={"max_epochs": EPOCHS, "held_out": 0.0, "patience": 0})
    yardstick.seconds_per_epoch(theirs, 1)
    seconds: dict[str, list[tuple[float, float]]] = {
        "scvi-tools": [],
        "cellgraft": [],
        f"cellgraft, {OWN}": [],
    }
    for recipe in (same, own):
        _seconds_per_epoch(network, group, recipe)
    for _ in range(ROUNDS):
        seconds["scvi-tools"].append(_timed(lambda: yardstick.seconds_per_epoch(theirs, EPOCHS)))
        seconds["cellgraft"].append(_timed(lambda: _seconds_per_epoch(network, group, same)))
        seconds[f"cellgraft, {OWN}"].append(_timed(lambda: _seconds_per_epoch(network, group, own)))
    figures = {name: spread([clock for clock, _ in found]) for name, found in seconds.items()}
    yardstick_median = figures["scvi-tools"]["median"]
    faster = {
        name: round(yardstick_median / found["median"], 2)
        for name, found in figures.items()
        if name != "scvi-tools"
    }
    # On a machine with other work the clock counts that too; the processor's time does not.
    processor = {name: spread([used for _, used in found]) for name, found in seconds.items()}
    profile = {
        str(size): step_profile.of(network, group, size)
        for size in (same.minibatch_size, own.minibatch_size)
    }
    # `times_faster` at the top is that of the recipe that both sides have.
    first = {"times_faster": faster["cellgraft"], "own_times_faster": faster[f"cellgraft, {OWN}"]}
    keep(
        f"epochs-{likelihood}",
        {**figures, **first, "processor_seconds": processor, "step_microseconds": profile},
    )


def _timed(epochs: Callable[[], float]) -> tuple[float, float]:
    """Seconds of an epoch by the clock, and of the processors."""
    began = time.process_time()
    return epochs(), (time.process_time() - began) / EPOCHS


def _ours(x: torch.Tensor, likelihood: Likelihood) -> tuple[TrainingCells, SCVI]:
    torch.manual_seed(0)
    network = SCVI(Architecture(n_genes=x.shape[1], likelihood=likelihood), n_categories=[2]).eval()
    new = (2,)  # the first batch after the reference's two
    blocks = [project_block(network, Cells(x[a:b], new)) for a, b in block_ranges(len(x))]
    return TrainingCells(Cells(x, new), join_projections(blocks)), network


def _seconds_per_epoch(network: SCVI, group: TrainingCells, recipe: Recipe) -> float:
    began = time.perf_counter()
    fit(network, group, recipe, n_new=[1], library_prior=None, seed=0, tick=lambda done: None)
    return (time.perf_counter() - began) / (recipe.max_epochs or 1)
