"""Small simulated queries and references for the engine's tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from models_store.bundle import load_bundle
from models_store.manifest import Manifest
from models_store.scvi import SCVI
from worker.alignment import AlignedCounts
from worker.building import run_build
from worker.canonical import CanonicalQuery
from worker.covariates import design_query
from worker.grafting import QuerySurgery
from worker.orders import BuildOrder, MapOrder, ShardOrder

N_GENES = 60


def nothing(*_: Any) -> None:
    """A report or a progress that nobody hears."""


@dataclass(frozen=True)
class Simulated:
    """Counts and obs in memory: two cell types, one multiplicative effect for each batch."""

    counts: sp.csr_matrix
    obs: pd.DataFrame

    def take(self, cells: np.ndarray) -> Simulated:
        return Simulated(self.counts[cells], self.obs.iloc[cells])


def simulate(batches: dict[str, int], *, seed: int = 0, n_genes: int = N_GENES) -> Simulated:
    """So many cells of each batch; the same gene effects for every seed."""
    world, generator = np.random.default_rng(7), np.random.default_rng(seed)
    types = world.normal(0, 1.0, (2, n_genes))
    effects = {
        name: np.random.default_rng(sum(name.encode())).normal(0, 0.6, n_genes) for name in batches
    }
    names = [name for name, n in batches.items() for _ in range(n)]
    kind = generator.integers(0, 2, len(names))
    rate = np.exp(types[kind] + np.array([effects[name] for name in names]))
    rate *= generator.lognormal(4.5, 0.3, (len(names), 1)) / rate.sum(1, keepdims=True)
    counts = generator.poisson(generator.gamma(2.0, rate / 2.0)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "batch": names,
            "cell_type": np.array(["alpha", "beta"])[kind],
            "plate": generator.choice(["p1", "p2"], len(names)),
            "age": generator.normal(0, 1, len(names)),
            "size": counts.sum(1) + 1.0,
        },
        index=[f"cell{seed}-{i}" for i in range(len(names))],
    )
    return Simulated(sp.csr_matrix(counts), obs)


def write_canonical(folder: Path, cells: Simulated, *, kind: str = "counts") -> CanonicalQuery:
    """The canonical folder that intake would have written."""
    folder.mkdir(parents=True)
    x = cells.counts.sorted_indices()
    np.save(folder / "indptr.npy", x.indptr.astype(np.int64))
    np.save(folder / "indices.npy", x.indices.astype(np.int32))
    np.save(folder / "data.npy", x.data.astype(np.float32))
    symbols = [f"GENE{i}" for i in range(x.shape[1])]
    ensembl = [f"ENSG{i:011d}" for i in range(x.shape[1])]
    (folder / "genes.json").write_text(
        json.dumps({"index": symbols, "columns": {"gene_ids": ensembl}})
    )
    facts = {"format": 1, "n_cells": x.shape[0], "n_genes": x.shape[1], "nnz": int(x.nnz)}
    facts |= {"input": kind, "counts_from": "X", "dropped": {}}
    (folder / "canonical.json").write_text(json.dumps(facts))
    columns = [pa.array(list(cells.obs.index)), *(pa.array(cells.obs[c]) for c in cells.obs)]
    table = pa.table(columns, names=["__index__", *cells.obs.columns])
    table = table.replace_schema_metadata({b"index_name": b"null"})
    with (
        pa.OSFile(str(folder / "obs.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as out,
    ):
        out.write_table(table)
    return CanonicalQuery.open(folder)


@dataclass(frozen=True)
class Reference:
    """A built reference on disk and in memory."""

    folder: Path
    manifest: Manifest
    cvae: SCVI


def build_reference(folder: Path, cells: Simulated, **options: Any) -> Reference:
    """A tiny reference, trained for a moment: enough for its weights to be its own.

    Its recipe is the release's, unless `recipe_search` is asked for.
    """
    kind = (
        "continuous" if options.get("architecture", {}).get("likelihood") == "normal" else "counts"
    )
    write_canonical(folder / "canonical", cells, kind=kind)
    out = folder / "bundle"
    out.mkdir()
    small = {"n_hidden": 16, "n_latent": 4, **options.pop("architecture", {})}
    wanted = {"batch_key": "batch", "labels_keys": ["cell_type"], "max_epochs": 2, "seed": 0}
    wanted["recipe_search"] = "off"
    order = BuildOrder(
        name="tiny",
        version=1,
        canonical=folder / "canonical",
        out=out,
        options={**wanted, **options, "architecture": small},
        source={},
        threads=1,
        device="cpu",
    )
    run_build(order, nothing)
    manifest, cvae = load_bundle(out)
    return Reference(out, manifest, cvae)


def surgery_on(
    reference: Reference,
    query: CanonicalQuery,
    *,
    batch_key: list[str] | None = None,
    **options: Any,
) -> QuerySurgery:
    manifest = reference.manifest
    design = design_query(query.obs(), manifest, batch_key=batch_key or ["batch"], **options)
    match = manifest.match_genes(query.gene_columns())
    return QuerySurgery(manifest, reference.cvae, AlignedCounts(query, match), design)


def shard_of(whole: MapOrder, out: Path, start: int, stop: int) -> ShardOrder:
    """The order to read some cells of what a mapping is about."""
    return ShardOrder(
        canonical=whole.canonical,
        bundle=whole.bundle,
        manifest_sha256=whole.manifest_sha256,
        out=out,
        options=whole.options,
        start=start,
        stop=stop,
        threads=whole.threads,
        device=whole.device,
    )
