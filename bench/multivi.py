"""Where cells land that were measured for RNA alone, chromatin alone, or both: the same cells.

A reference of paired cells, dealt to two batches at random; the third of the cells that is held out
is mapped three times, as three batches. Beside it scvi-tools, with its own reference of the same
cells, trained by its defaults, and its own surgery, at most THEIR_QUERY_EPOCHS of it. SEEDS and
SIDES (each by commas) choose; EPOCHS stands for our number of epochs.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.kept_slices import KeptSlices, means_by_side
from bench.one_batch import encoded, mapped
from models_store.cells import Cells
from models_store.manifest import Architecture
from models_store.multivi import MULTIVI
from models_store.recipe import RecipeName
from worker.reference_training import (
    OF_REGIONS,
    WARMUP_SHARE,
    Schedule,
    default_epochs,
    train_reference,
)
from worker.training_plan import WARMUP_EPOCHS

DATA = "multiome_a549_2641"
OPEN_IN = 0.02
"""Regions that are open in a smaller share of cells are left out."""
NEIGHBOURS = 30
WAYS = ("RNA", "chromatin", "both")
OUR_RECIPES: tuple[RecipeName, ...] = ("forward", "default")
THEIR_QUERY_EPOCHS = 200
"""Of the 500 that it would train a query for; its reference has them all, unless it stops early."""

Latents = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Counts:
    """Counts of genes, then of regions, (c, g + r), and how many are genes."""

    x: Tensor
    n_genes: int

    def seen(self, way: str) -> Tensor:
        """As measured this way: the other modality is 0."""
        x = self.x.clone()
        if way == "RNA":
            x[:, self.n_genes :] = 0
        if way == "chromatin":
            x[:, : self.n_genes] = 0
        return x

    def rows(self, rows: Tensor) -> Counts:
        return Counts(self.x[rows], self.n_genes)


def read(path: Path) -> Counts:
    import anndata

    adata = anndata.read_h5ad(path)
    genes = (adata.var["modality"] == "Gene Expression").to_numpy()
    x = adata.X.tocsc()
    share = np.asarray((x > 0).mean(0)).ravel()
    chosen = [np.flatnonzero(genes), np.flatnonzero(~genes & (share >= OPEN_IN))]
    dense = torch.from_numpy(x[:, np.concatenate(chosen)].toarray().astype(np.float32))
    return Counts(dense, len(chosen[0]))


def ours(reference: Counts, query: Counts, seed: int) -> Any:
    """What is found of each recipe, and of the cells encoded as those of a reference batch."""
    n_regions, n = reference.x.shape[1] - reference.n_genes, len(reference.x)
    a = Architecture(n_genes=reference.n_genes, n_regions=n_regions, n_hidden=64, n_latent=8)
    torch.manual_seed(seed)
    network = MULTIVI(a, n_categories=(2,))
    cells = Cells(reference.x, (torch.arange(n) % 2,))
    epochs = int(os.environ.get("EPOCHS", default_epochs(n)))
    schedule = Schedule(epochs, seed, min(WARMUP_SHARE, WARMUP_EPOCHS / epochs), OF_REGIONS)
    began = time.monotonic()
    train_reference(network, cells, None, schedule, lambda _share: None)
    found: dict[str, Any] = {"building": {"epochs": epochs, "seconds": time.monotonic() - began}}
    own = encoded(network, cells)
    for recipe in OUR_RECIPES:
        began = time.monotonic()
        latents = {
            way: mapped(network, Cells(query.seen(way), (2,)), recipe, seed, own=own)
            for way in WAYS
        }
        found[recipe] = judge(latents) | {"seconds": time.monotonic() - began}
    return found


def theirs(reference: Counts, query: Counts, seed: int) -> Any:
    """Before and after its surgery, with its own reference."""
    import scvi

    scvi.settings.seed = seed
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    batches = [f"r{i % 2}" for i in range(len(reference.x))]
    began = time.monotonic()
    model = _their_model(_mudata(reference.x, reference.n_genes, batches))
    model.train(**quiet)
    seconds = time.monotonic() - began
    found = {"building": {"epochs": float(model.trainer.current_epoch), "seconds": seconds}}
    x = torch.cat([query.seen(way) for way in WAYS])
    names = [way for way in WAYS for _ in range(len(query.x))]
    began = time.monotonic()
    grafted = scvi.model.MULTIVI.load_query_data(
        _mudata(x, query.n_genes, names), model, accelerator="cpu"
    )
    for what, train in {
        "untrained": lambda: setattr(grafted, "is_trained_", True),
        "surgery": lambda: grafted.train(THEIR_QUERY_EPOCHS, weight_decay=0.0, **quiet),
    }.items():
        train()
        parts = np.split(grafted.get_latent_representation(), len(WAYS))
        latents = dict(zip(WAYS, parts, strict=True))
        found[what] = judge(latents) | {"seconds": time.monotonic() - began}
    return found


def _their_model(mdata: Any) -> Any:
    import scvi

    scvi.model.MULTIVI.setup_mudata(
        mdata, batch_key="batch", modalities={"rna_layer": "rna", "atac_layer": "atac"}
    )
    return scvi.model.MULTIVI(
        mdata,
        n_hidden=64,
        n_latent=8,
        gene_likelihood="nb",
        encode_covariates=True,
        deeply_inject_covariates=True,
        dropout_rate=0.2,
    )


def _mudata(x: Tensor, n_genes: int, batches: list[str]) -> Any:
    import anndata
    import mudata
    import pandas as pd

    names = [f"cell{i}" for i in range(len(x))]
    parts = {}
    for name, part in (("rna", x[:, :n_genes]), ("atac", x[:, n_genes:])):
        var = pd.DataFrame(index=[f"{name}{i}" for i in range(part.shape[1])])
        parts[name] = anndata.AnnData(part.numpy(), obs=pd.DataFrame(index=names), var=var)
    made = mudata.MuData(parts)
    made.obs = pd.DataFrame({"batch": batches}, index=names)
    return made


def judge(latents: Latents) -> dict[str, float]:
    """Mixing of the three ways among neighbours (1: as by chance), and for each pair of ways the
    mean share of cells that are nearer to a cell than it is to itself (0.5: as by chance)."""
    whole = np.concatenate([latents[way] for way in WAYS])
    way = np.repeat(np.arange(len(WAYS)), len(latents["RNA"]))
    apart = _distances(whole, whole)
    np.fill_diagonal(apart, np.inf)
    near = np.argpartition(apart, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    others = (way[near] != way[:, None]).mean()
    found = {"mixing": float(others / (1 - 1 / len(WAYS)))}
    for one, other in combinations(WAYS, 2):
        between = _distances(latents[one], latents[other])
        nearer = (between < np.diag(between)[:, None]).mean()
        found[f"nearer than itself, {one} and {other}"] = float(nearer)
    return found


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return torch.cdist(torch.from_numpy(a), torch.from_numpy(b)).numpy()


SIDES: dict[str, Callable[[Counts, Counts, int], Any]] = {"Cellgraft": ours, "scvi-tools": theirs}


def run() -> None:
    path = Path(os.environ.get("BENCH_DATA", "../shared/data")) / DATA / f"{DATA}.h5ad"
    if not path.exists():
        sys.stdout.write(f"multivi: skipped, since {path} is not there (BENCH_DATA).\n")
        return
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    counts = read(path)
    slices = KeptSlices("multivi", lambda found: {"means": means_by_side(found)})
    for seed in map(int, os.environ.get("SEEDS", "0,1,2").split(",")):
        order = torch.randperm(len(counts.x), generator=torch.Generator().manual_seed(seed))
        n_query = len(order) // 3
        query, reference = counts.rows(order[:n_query]), counts.rows(order[n_query:])
        for side in os.environ.get("SIDES", ",".join(SIDES)).split(","):
            slices.add(
                f"seed {seed}, {side}",
                lambda side=side, of=(reference, query, seed): SIDES[side](*of),  # type: ignore[misc]
            )
