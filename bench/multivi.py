"""Where cells land that were measured for RNA alone, chromatin alone, or both: the same cells.

A reference of paired cells in two batches; the cells held out are mapped three times, as three
batches. Beside it scvi-tools, with its own reference of the same cells and its own surgery.

    python -m bench.multivi DATA.h5ad [--epochs N] [--their-epochs N] [--out results.json]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.one_batch import mapped
from models_store.cells import Cells
from models_store.manifest import Architecture
from models_store.multivi import MULTIVI
from models_store.recipe import RecipeName
from worker.reference_training import OF_REGIONS, WARMUP_SHARE, Schedule, train_reference
from worker.training_plan import WARMUP_EPOCHS

OPEN_IN = 0.02
"""Regions that are open in a smaller share of cells are left out."""
NEIGHBOURS = 30
WAYS = ("RNA", "chromatin", "both")
OUR_RECIPES: tuple[RecipeName, ...] = ("forward", "default")
THEIR_EPOCHS = 30
"""Of mapping."""


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


def ours(reference: Counts, query: Counts, epochs: int, seed: int, rate: float) -> Any:
    """Our latents of each recipe and way, the seconds of building and of mapping."""
    n_regions = reference.x.shape[1] - reference.n_genes
    a = Architecture(n_genes=reference.n_genes, n_regions=n_regions, n_hidden=64, n_latent=8)
    torch.manual_seed(seed)
    network = MULTIVI(a, n_categories=(2,))
    cells = Cells(reference.x, (torch.arange(len(reference.x)) % 2,))
    optimiser = replace(OF_REGIONS, learning_rate=rate)
    schedule = Schedule(epochs, seed, min(WARMUP_SHARE, WARMUP_EPOCHS / epochs), optimiser)
    began = time.monotonic()
    train_reference(network, cells, None, schedule, lambda _share: None)
    built, found, seconds = time.monotonic() - began, {}, {}
    for recipe in OUR_RECIPES:
        began = time.monotonic()
        found[recipe] = {
            way: mapped(network, Cells(query.seen(way), (2,)), recipe, seed) for way in WAYS
        }
        seconds[recipe] = {"build": built, "map": time.monotonic() - began}
    return found, seconds


def theirs(reference: Counts, query: Counts, epochs: int, seed: int, rate: float) -> Any:
    """scvi-tools' latents of each way, by its own reference and surgery."""
    import scvi

    scvi.settings.seed = seed
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    batches = [f"r{i % 2}" for i in range(len(reference.x))]
    began = time.monotonic()
    model = _their_model(_mudata(reference.x, reference.n_genes, batches))
    model.train(max_epochs=epochs, lr=rate, **quiet)
    built, began = time.monotonic() - began, time.monotonic()
    x = torch.cat([query.seen(way) for way in WAYS])
    names = [way for way in WAYS for _ in range(len(query.x))]
    mapped = scvi.model.MULTIVI.load_query_data(
        _mudata(x, query.n_genes, names), model, accelerator="cpu"
    )
    mapped.train(max_epochs=min(THEIR_EPOCHS, epochs), lr=rate, weight_decay=0.0, **quiet)
    latent = mapped.get_latent_representation()
    found = dict(zip(WAYS, np.split(latent, len(WAYS)), strict=True))
    return found, {"build": built, "map": time.monotonic() - began}


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


def judge(latents: dict[str, np.ndarray]) -> dict[str, float]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--their-epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--their-rate", type=float, default=1e-4)
    parser.add_argument("--only", choices=("ours", "theirs"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    counts = read(given.data)
    order = torch.randperm(len(counts.x), generator=torch.Generator().manual_seed(given.seed))
    n_query = len(order) // 3
    query, reference = counts.rows(order[:n_query]), counts.rows(order[n_query:])
    result: dict[str, Any] = {
        "cells": {"reference": len(reference.x), "query": n_query},
        "features": {"genes": counts.n_genes, "regions": counts.x.shape[1] - counts.n_genes},
        "epochs": {"ours": given.epochs, "theirs": given.their_epochs},
        "learning rates": {"ours": given.rate, "theirs": given.their_rate},
        "seed": given.seed,
    }
    if given.only != "theirs":
        found, seconds = ours(reference, query, given.epochs, given.seed, given.rate)
        for recipe, latents in found.items():
            result[f"ours, {recipe}"] = judge(latents) | {"seconds": seconds[recipe]}
    if given.only != "ours":
        latents, seconds = theirs(
            reference, query, given.their_epochs, given.seed, given.their_rate
        )
        result["theirs"] = judge(latents) | {"seconds": seconds}
    print(json.dumps(result, indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
