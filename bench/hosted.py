"""A reference that scvi-tools trained, as Cellgraft hosts it, and surgery on it."""

from __future__ import annotations

import hashlib
from typing import Any

import anndata
import numpy as np
import scipy.sparse as sp
import torch

from models_store.bundle import WEIGHTS_FILE
from models_store.manifest import Manifest
from models_store.scvi import SCVI
from worker.alignment import AlignedCounts
from worker.covariates import design_query
from worker.grafting import QuerySurgery


def manifest(reference: anndata.AnnData, *, kind: str, seed: int) -> Manifest:
    """Of a reference of all genes with the default architecture."""
    total = np.asarray(reference.X.sum(axis=0)).ravel()
    labels = []
    if kind == "scanvi":
        labels = [{"key": "cell_type", "categories": sorted(set(reference.obs["cell_type"]))}]
    return Manifest.model_validate(
        {
            "name": "bench",
            "version": 1,
            "kind": kind,
            "architecture": {"n_genes": reference.n_vars},
            "genes": {"ids": tuple(reference.var_names)},
            "batch": {"key": "batch", "categories": tuple(sorted(set(reference.obs["batch"])))},
            "labels": labels,
            "expected_expression": tuple(total / total.sum()),
            **of_nowhere(reference.n_obs, seed),
        }
    )


def of_nowhere(n_cells: int, seed: int) -> dict[str, Any]:
    """What a manifest says of a reference that was never stored: other seeds, other files."""
    return {
        "provenance": {
            "cellgraft_version": "0",
            "torch_version": torch.__version__,
            "n_cells": n_cells,
            "seed": seed,
            "created_at": "2026-01-01T00:00:00Z",
        },
        "files": {WEIGHTS_FILE: hashlib.sha256(str(seed).encode()).hexdigest()},
    }


def surgery(manifest: Manifest, network: SCVI, query: anndata.AnnData) -> QuerySurgery:
    """On counts of the query, whose genes are the reference's and whose batches are in `batch`."""
    design = design_query(query.obs, manifest, batch_key=["batch"])
    counts = AlignedCounts.of_panel(sp.csr_matrix(query.X, dtype=np.float32))
    return QuerySurgery(manifest, network.eval(), counts, design)


def quiet(*_: Any) -> None:
    """Nobody hears how far it has come."""
