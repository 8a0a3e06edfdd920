"""scvi-tools 1.4.2 with the settings that its own tutorials recommend for surgery."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import torch

from models_store.scvi import SCVI
from tests.parity.convert import translate

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


def kept_reference(cells: anndata.AnnData, folder: Path, *, epochs: int) -> Any:
    """The reference that an earlier run left in this folder, or a new one, left there."""
    scvi = _scvi()
    if folder.exists():
        return scvi.model.SCVI.load(folder, cells)
    scvi.settings.seed = 0
    made = reference(cells, likelihood="nb", epochs=epochs)
    made.save(folder)
    return made


def query(cells: anndata.AnnData, onto: Any) -> Any:
    return _scvi().model.SCVI.load_query_data(cells, onto)


def with_weights(cells: anndata.AnnData, network: SCVI) -> Any:
    """A reference of scvi-tools' that has our network's weights; it never trains."""
    scvi = _scvi()
    scvi.model.SCVI.setup_anndata(cells, batch_key="batch")
    made = scvi.model.SCVI(cells, gene_likelihood="nb", **RECOMMENDED)
    ours = network.state_dict()
    with torch.no_grad():
        # What is translated are views of their weights, so these are written in place.
        for name, theirs in translate(network, made.module.state_dict()).items():
            if theirs.numel():
                theirs.copy_(ours[name])
    made.module.eval()
    made.is_trained_ = True
    return made


def surgery_latents(cells: anndata.AnnData, onto: Any, *, early_stopping: bool, seed: int) -> Any:
    """Latents after 200 epochs, or after a 50-epoch warm-up with early stopping, (cells, z)."""
    _scvi().settings.seed = seed
    mapped = query(cells, onto)
    plan: dict[str, Any] = {"weight_decay": 0.0}
    if early_stopping:
        plan["n_epochs_kl_warmup"] = 50
        mapped.train(max_epochs=400, early_stopping=True, plan_kwargs=plan, **QUIET)
    else:
        mapped.train(max_epochs=200, plan_kwargs=plan, **QUIET)
    return mapped.get_latent_representation()


def labelled_reference(cells: anndata.AnnData, *, seed: int) -> Any:
    """A SCANVI reference as the surgery tutorial makes it: an SCVI, then 20 epochs with labels."""
    scvi = _scvi()
    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(cells, batch_key="batch", labels_key="cell_type")
    plain = scvi.model.SCVI(cells, gene_likelihood="nb", **RECOMMENDED)
    plain.train(**QUIET)
    made = scvi.model.SCANVI.from_scvi_model(plain, unlabeled_category="Unknown")
    made.train(max_epochs=20, n_samples_per_label=100, **QUIET)
    return made


def labelled_reference_from_scratch(cells: anndata.AnnData, *, seed: int) -> Any:
    """A SCANVI reference trained with labels from the start, for the default number of epochs."""
    scvi = _scvi()
    scvi.settings.seed = seed
    scvi.model.SCANVI.setup_anndata(
        cells, batch_key="batch", labels_key="cell_type", unlabeled_category="Unknown"
    )
    made = scvi.model.SCANVI(cells, gene_likelihood="nb", **RECOMMENDED)
    made.train(**QUIET)
    return made


def predict(cells: anndata.AnnData, onto: Any, *, epochs: int) -> Any:
    """The labels that a query without any is given, after surgery as the tutorial does it."""
    cells.obs["cell_type"] = "Unknown"
    mapped = _scvi().model.SCANVI.load_query_data(cells, onto)
    mapped.train(
        max_epochs=epochs,
        plan_kwargs={"weight_decay": 0.0},
        check_val_every_n_epoch=10,
        **QUIET,
    )
    return mapped.predict()


def seconds_per_epoch(mapped: Any, epochs: int) -> float:
    began = time.perf_counter()
    mapped.train(max_epochs=epochs, train_size=1.0, plan_kwargs={"weight_decay": 0.0}, **QUIET)
    return (time.perf_counter() - began) / epochs


def watched_training(
    mapped: Any,
    cells: tuple[Any, Any],
    *,
    epochs: int,
    at_epoch: Callable[[int, float], None],
    **options: Any,
) -> None:
    """Train a query's weights, and tell after each epoch how many there were and their seconds.

    Args:
        mapped: a query model.
        cells: positions of its training cells and of those it validates on.
        epochs: at most so many.
        at_epoch: what it takes, and validating, is not in the seconds.
        options: of `train`.
    """
    from lightning.pytorch import Callback

    class Clock(Callback):
        def __init__(self) -> None:
            self.epochs, self.seconds, self.began = 0, 0.0, 0.0

        def resume(self, *_: Any) -> None:
            self.began = time.perf_counter()

        def pause(self, *_: Any) -> None:
            self.seconds += time.perf_counter() - self.began

        on_train_start = on_validation_end = resume
        on_validation_start = pause

        def on_train_epoch_end(self, *_: Any) -> None:
            self.pause()
            self.epochs += 1
            at_epoch(self.epochs, self.seconds)
            self.resume()

    mapped.train(
        max_epochs=epochs,
        datasplitter_kwargs={"external_indexing": list(cells)},
        callbacks=[Clock()],
        **options,
        **QUIET,
    )


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
