"""Where cells of a new batch land in a reference of peaks, beside scvi-tools' own reference.

A third of the cells are the query; the others are dealt out to two batches at random, so batches
differ by nothing. A tenth of the reference's cells trains nothing and judges the reconstruction.
Both kinds, PEAKVI and POISSONVI. SEEDS, KINDS and SIDES (each by commas) choose; EPOCHS stands for
our number of epochs.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from bench.kept_slices import KeptSlices, means_by_side
from bench.multivi import DATA
from bench.one_batch import encoded, mapped
from models_store.cells import Cells, with_dense_counts
from models_store.cvae import CVAE
from models_store.kinds import NETWORKS
from models_store.manifest import Architecture
from models_store.recipe import RecipeName
from models_store.sparse_counts import sparse_counts
from worker.kind_options import DEFAULTS, sizes_of
from worker.reference_training import OF_REGIONS, Schedule, train_reference
from worker.training_plan import region_epochs

NEIGHBOURS = 30
MOST_REGIONS = 10_000
RECIPES_OF_OURS: tuple[RecipeName, ...] = ("forward", "default")
THEIR_CLASSES = {"peakvi": "PEAKVI", "poissonvi": "POISSONVI"}


@dataclass(frozen=True)
class Split:
    """Counts of all cells, (c, r), and who is who among them."""

    x: sp.csr_matrix
    training: Tensor
    held_out: Tensor
    query: Tensor
    batch: Tensor
    """0 or 1 of the reference's cells, 2 of the query's."""

    @classmethod
    def of(cls, x: sp.csr_matrix, seed: int) -> Split:
        order = torch.randperm(x.shape[0], generator=torch.Generator().manual_seed(seed))
        n_query = len(order) // 3
        query, reference = order[:n_query], order[n_query:]
        batch = torch.randint(2, (len(order),), generator=torch.Generator().manual_seed(seed))
        batch[query] = 2
        n_aside = len(reference) // 10
        return cls(x, reference[n_aside:], reference[:n_aside], query, batch)

    def cells(self, which: Tensor) -> Cells:
        return Cells(sparse_counts(self.x[which.numpy()]), (self.batch[which],))


def read(path: Path, n_regions: int) -> sp.csr_matrix:
    """The regions that are open in the most cells, of the features that are no genes."""
    import anndata

    adata = anndata.read_h5ad(path)
    x = sp.csc_matrix(adata.X)[:, (adata.var["modality"] != "Gene Expression").to_numpy()]
    open_in = np.diff(x.indptr)
    return x[:, np.sort(np.argsort(-open_in, kind="stable")[:n_regions])].tocsr().astype(np.float32)


def ours(split: Split, kind: str, seed: int) -> dict[str, Any]:
    n_regions = split.x.shape[1]
    options: dict[str, Any] = dict(DEFAULTS[kind]) | sizes_of(kind, {"region": n_regions}, {})  # type: ignore[index,arg-type]
    architecture = Architecture(n_genes=0, n_regions=n_regions, **options)
    torch.manual_seed(seed)
    network = NETWORKS[kind](architecture, n_categories=[2])  # type: ignore[index]
    n_reference = len(split.training) + len(split.held_out)
    epochs = int(os.environ.get("EPOCHS", region_epochs(n_reference)))
    began = time.process_time()
    schedule = Schedule(epochs, seed, optimiser=OF_REGIONS)
    train_reference(network, split.cells(split.training), None, schedule, lambda _share: None)
    building = {"epochs": epochs, "processor_seconds": time.process_time() - began}
    parts = [encoded(network, split.cells(each)) for each in (split.training, split.held_out)]
    own = np.concatenate(parts)
    held_out = with_dense_counts(split.cells(split.held_out))
    building["held_out_reconstruction"] = _reconstruction(network, held_out)
    found: dict[str, Any] = {"building": building}
    for recipe in RECIPES_OF_OURS:
        latents = mapped(network, split.cells(split.query), recipe, seed, own=own)
        found[recipe] = {"mixing": mixing(own, latents)}
    return found


@torch.no_grad()
def _reconstruction(network: CVAE, cells: Cells) -> float:
    """Nats a cell at the mean of each posterior."""
    zeros = torch.zeros(len(cells.x), network.architecture.n_latent)
    terms = network.loss_terms(cells, replace(_no_noise(network, len(zeros)), z=zeros))
    return float(terms.reconstruction.mean())


def _no_noise(network: CVAE, n_cells: int) -> Any:
    return network.draw_noise(n_cells, torch.Generator().manual_seed(0))


def theirs(split: Split, kind: str, seed: int) -> dict[str, Any]:
    """By its defaults: 500 epochs at most, a patience of 50, and a surgery that trains likewise."""
    import anndata
    import pandas as pd
    import scvi

    scvi.settings.seed = seed
    quiet: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}
    reference = torch.cat([split.training, split.held_out]).numpy()
    order = np.concatenate([reference, split.query.numpy()])
    obs = pd.DataFrame({"batch": [f"b{int(b)}" for b in split.batch[order]]})
    obs.index = obs.index.astype(str)
    cells = anndata.AnnData(split.x[order], obs=obs)
    own, query = cells[: len(reference)].copy(), cells[len(reference) :].copy()
    kind_of_theirs = getattr(scvi.model if kind == "peakvi" else scvi.external, THEIR_CLASSES[kind])
    kind_of_theirs.setup_anndata(own, batch_key="batch")
    model = kind_of_theirs(own, encode_covariates=True, deeply_inject_covariates=True)
    n = len(split.training)
    parts = [np.arange(n), np.arange(n, len(reference)), np.array([], dtype=int)]
    began = time.process_time()
    model.train(datasplitter_kwargs={"external_indexing": parts}, **quiet)
    building = {
        "epochs": len(model.history["reconstruction_loss_validation"]),
        "processor_seconds": time.process_time() - began,
        "held_out_reconstruction": _their_reconstruction(model, own[n:].copy()),
    }
    found: dict[str, Any] = {"building": building}
    latents = model.get_latent_representation()
    forward = kind_of_theirs.load_query_data(query.copy(), model, accelerator="cpu")
    forward.is_trained_ = True
    found["untrained"] = {"mixing": mixing(latents, forward.get_latent_representation())}
    mapped = kind_of_theirs.load_query_data(query, model, accelerator="cpu")
    mapped.train(weight_decay=0.0, **quiet)
    found["surgery"] = {
        "mixing": mixing(latents, mapped.get_latent_representation()),
        "epochs": len(mapped.history["reconstruction_loss_validation"]),
    }
    return found


@torch.no_grad()
def _their_reconstruction(model: Any, cells: Any) -> float:
    """Nats a cell at the mean of each posterior."""
    module, total = model.module.eval(), 0.0
    for tensors in model._make_data_loader(model._validate_anndata(cells), batch_size=512):
        inference = module._get_inference_input(tensors)
        found = module.inference(**inference)
        mean = found["qz"].loc if "qz" in found else found["qz_m"]
        found["z"] = mean
        made = module.generative(**module._get_generative_input(tensors, found))
        total += float(module.loss(tensors, found, made).reconstruction_loss_sum)
    return total / cells.n_obs


def mixing(reference: np.ndarray, query: np.ndarray) -> float:
    """Share of the reference's cells among the neighbours of the query's, over chance."""
    every = torch.from_numpy(np.concatenate([reference, query]).astype(np.float32))
    apart = torch.cdist(every[len(reference) :], every)
    own = torch.arange(len(query))
    apart[own, len(reference) + own] = torch.inf
    near = apart.topk(NEIGHBOURS, largest=False).indices
    share = float((near < len(reference)).float().mean())
    return round(share / (len(reference) / (len(every) - 1)), 4)


SIDES: dict[str, Callable[[Split, str, int], Any]] = {"Cellgraft": ours, "scvi-tools": theirs}


def run() -> None:
    path = Path(os.environ.get("BENCH_DATA", "../shared/data")) / DATA / f"{DATA}.h5ad"
    if not path.exists():
        sys.stdout.write(f"peaks: skipped, since {path} is not there (BENCH_DATA).\n")
        return
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    counts = read(path, MOST_REGIONS)
    slices = KeptSlices("peaks", lambda found: {"means": means_by_side(found)})
    for seed in map(int, os.environ.get("SEEDS", "0,1,2").split(",")):
        split = Split.of(counts, seed)
        for side in os.environ.get("SIDES", ",".join(SIDES)).split(","):
            for kind in os.environ.get("KINDS", ",".join(THEIR_CLASSES)).split(","):
                slices.add(
                    f"seed {seed}, {side}, {kind}",
                    lambda side=side, of=(split, kind, seed): SIDES[side](*of),  # type: ignore[misc]
                )
