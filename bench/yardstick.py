"""scvi-tools 1.4.2 with the settings that its own tutorials recommend for surgery."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import anndata
import torch

RECOMMENDED = {
    "n_layers": 2,
    "use_layer_norm": "both",
    "use_batch_norm": "none",
    "encode_covariates": True,
    "dropout_rate": 0.2,
}
QUIET = {"enable_progress_bar": False, "logger": False}


def reference(cells: anndata.AnnData, *, likelihood: str, epochs: int) -> Any:
    """A reference trained for so many epochs, without a validation split."""
    scvi = _scvi()
    scvi.model.SCVI.setup_anndata(cells, batch_key="batch")
    made = scvi.model.SCVI(cells, gene_likelihood=likelihood, **RECOMMENDED)
    made.train(max_epochs=epochs, train_size=1.0, **QUIET)
    return made


def query(cells: anndata.AnnData, onto: Any) -> Any:
    return _scvi().model.SCVI.load_query_data(cells, onto)


def seconds_per_epoch(mapped: Any, epochs: int) -> float:
    began = time.perf_counter()
    mapped.train(max_epochs=epochs, train_size=1.0, plan_kwargs={"weight_decay": 0.0}, **QUIET)
    return (time.perf_counter() - began) / epochs


@torch.no_grad()
def held_out_elbo(made: Any, x: torch.Tensor, batch: torch.Tensor, *, draws: int = 5) -> float:
    """Mean ELBO per cell at KL weight 1, the number that `reference_training.mean_elbo` gives."""
    made.module.eval()
    total = 0.0
    for _ in range(draws):
        for rows in torch.split(torch.arange(len(x)), 1024):
            tensors = {
                "X": x[rows],
                "batch": batch[rows, None],
                "labels": torch.zeros(len(rows), 1),
            }
            _, _, loss = made.module(tensors, compute_loss=True)
            per_cell = loss.dict_sum(loss.reconstruction_loss) + loss.dict_sum(loss.kl_local)
            total -= float(per_cell.sum())
    return total / (draws * len(x))


def _scvi() -> Any:
    warnings.simplefilter("ignore")
    for name in ("lightning", "lightning.pytorch", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import scvi

    return scvi
