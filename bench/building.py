"""A reference of 8,000 cells and 2,000 genes: seconds, and held-out ELBO beside scvi-tools'."""

from __future__ import annotations

import time

import torch

from bench import yardstick
from bench.measure import keep
from bench.simulated import simulate
from models_store.cells import Cells, select_cells
from models_store.manifest import Architecture
from models_store.scvi import SCVI
from worker.reference_training import Schedule, default_epochs, split_cells, train_reference

N_CELLS = 8_000
THEIR_EPOCHS = 200


def run() -> None:
    torch.set_num_threads(2)
    cells = simulate(N_CELLS, ["a", "b"], seed=3)
    training, held_out = split_cells(N_CELLS, 0.1, 0)
    x = torch.from_numpy(cells.X.toarray())
    batch = torch.from_numpy((cells.obs["batch"] == "b").to_numpy().astype("int64"))
    both = Cells(x, (batch,))
    torch.manual_seed(0)
    network = SCVI(Architecture(n_genes=x.shape[1]), n_categories=[2])
    ours = train_reference(
        network,
        select_cells(both, training),
        select_cells(both, held_out),
        Schedule(default_epochs(N_CELLS), 0),
        lambda done: None,
    )
    began = time.perf_counter()
    made = yardstick.reference(cells[training.numpy()].copy(), likelihood="nb", epochs=THEIR_EPOCHS)
    theirs = time.perf_counter() - began
    elbo = yardstick.held_out_elbo(made, x[held_out], batch[held_out])
    assert ours.held_out_elbo is not None
    keep(
        "building",
        {
            "cellgraft": {
                "epochs": ours.epochs,
                "seconds": round(ours.seconds, 1),
                "held_out_elbo": round(ours.held_out_elbo, 2),
            },
            "scvi-tools": {
                "epochs": THEIR_EPOCHS,
                "seconds": round(theirs, 1),
                "held_out_elbo": round(elbo, 2),
            },
            "elbo_difference_percent": round(100 * (ours.held_out_elbo - elbo) / abs(elbo), 3),
        },
    )
