"""Proteins of cells that were measured for RNA alone, beside scvi-tools', on real cells.

The reference holds cells of pbmc10k with their 14 proteins, the query cells of pbmc5k without,
among them 200 whose proteins were measured after all. Each seed trains scvi-tools' reference and
ours, and imputes with each, decoded into the reference's batch.

The bar: the mean over proteins of the rank correlation with the measured counts is not below theirs
by more than max(0.01, 2 standard errors) of the difference, paired by seed. It is asked twice: on
the very same reference (scvi-tools', its weights put into our network), and with our own against
theirs.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
import torch
from scipy.stats import spearmanr

from bench import yardstick
from bench.hosted import of_nowhere
from bench.measure import keep
from bench.scenarios import _variable
from models_store.cells import Cells
from models_store.decoding import decode_block
from models_store.kinds import untrained
from models_store.manifest import Manifest
from models_store.protein_panels import with_measured
from models_store.recipe import RECIPES
from models_store.totalvi import TOTALVI
from tests.parity.totalvi_convert import translate
from worker.alignment import AlignedCounts
from worker.covariates import design_query
from worker.grafting import QuerySurgery
from worker.kind_options import DEFAULTS
from worker.training_plan import TrainingPlan

DATA = Path(os.environ.get("BENCH_DATA", "../shared/data")) / "pbmc_citeseq_10k5k"
SEEDS = int(os.environ.get("SEEDS", "5"))
N_REFERENCE, N_QUERY = 2000, 800
EPOCHS, QUERY_EPOCHS = 200, 150
"""Of scvi-tools, at most: it stops early."""
SMALLEST_BAR = 0.01
PROTEINS, TRUTH = "protein_expression", "protein_truth"
QUIET = {"enable_progress_bar": False}
SETTINGS = {"n_layers_encoder": 2, "use_layer_norm": "both", "use_batch_norm": "none"}

Floats = npt.NDArray[np.float64]


def run() -> None:
    path = DATA / "pbmc_citeseq_10k5k.h5ad"
    if not path.exists():
        sys.stdout.write(f"imputation: skipped, since {path} is not there (BENCH_DATA).\n")
        return
    torch.set_num_threads(2)
    whole = anndata.read_h5ad(path)
    found: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        for name, correlation in _impute_all(*_cells(whole, seed), seed).items():
            found.setdefault(name, []).append(correlation)
            sys.stdout.write(f"imputation: seed {seed}, {name}: {correlation:.4f}\n")
            sys.stdout.flush()
    pairs = {
        "same reference (theirs)": ("ours on theirs", "theirs"),
        "own against theirs": ("ours", "theirs"),
    }
    keep(
        "imputation",
        {
            "n_reference": N_REFERENCE,
            "n_query": N_QUERY,
            "mean_correlation": {name: np.round(each, 4).tolist() for name, each in found.items()},
            "compared": {
                name: _compare(np.array(found[ours]), np.array(found[theirs]))
                for name, (ours, theirs) in pairs.items()
            },
        },
    )


def _cells(whole: anndata.AnnData, seed: int) -> tuple[anndata.AnnData, anndata.AnnData]:
    """Some cells of the reference, and of the query those with a truth and some others."""
    rng = np.random.default_rng(seed)
    is_reference = (whole.obs["batch"] == "pbmc10k_v3").to_numpy()
    known = (whole.obsm[TRUTH].to_numpy() > 0).any(1) & ~is_reference
    others = np.flatnonzero(~is_reference & ~known)
    reference = whole[np.sort(rng.choice(np.flatnonzero(is_reference), N_REFERENCE, replace=False))]
    more = rng.choice(others, N_QUERY - int(known.sum()), replace=False)
    query = whole[np.sort(np.concatenate([np.flatnonzero(known), more]))]
    genes = _variable(reference.copy())
    return reference[:, genes].copy(), query[:, genes].copy()


def _impute_all(reference: anndata.AnnData, query: anndata.AnnData, seed: int) -> dict[str, float]:
    """The mean rank correlation, by who imputed."""
    manifest = _manifest(reference, seed)
    began = time.monotonic()
    theirs = _their_reference(reference.copy(), seed)
    trained = time.monotonic()
    network = untrained(manifest)
    assert isinstance(network, TOTALVI)
    network.load_state_dict(translate(network, theirs.module.state_dict()))
    imputed = {
        "theirs": _their_imputation(query.copy(), theirs),
        "ours on theirs": _our_imputation(manifest, network, query),
    }
    built = time.monotonic()
    imputed["ours"] = _our_imputation(manifest, _our_reference(manifest, reference, seed), query)
    sys.stdout.write(
        f"imputation: seed {seed}: their reference {trained - began:.0f} s, both mappings onto it "
        f"{built - trained:.0f} s, our reference and mapping {time.monotonic() - built:.0f} s\n"
    )
    return {name: _correlation(query, each) for name, each in imputed.items()}


def _correlation(query: anndata.AnnData, imputed: Floats) -> float:
    """Mean over proteins, of the cells that were measured."""
    truth = query.obsm[TRUTH].to_numpy()
    known = (truth > 0).any(1)
    pairs = zip(imputed[known].T, truth[known].T, strict=True)
    return float(np.mean([spearmanr(ours, counts)[0] for ours, counts in pairs]))


def _compare(ours: Floats, theirs: Floats) -> dict[str, Any]:
    difference = ours - theirs
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else 0.0
    bar = max(SMALLEST_BAR, 2 * error)
    return {
        "ours": round(float(ours.mean()), 4),
        "theirs": round(float(theirs.mean()), 4),
        "difference": round(float(difference.mean()), 4),
        "standard_error": round(error, 4),
        "bar": round(-bar, 4),
        "passes": bool(difference.mean() >= -bar),
    }


def _their_reference(reference: anndata.AnnData, seed: int) -> Any:
    scvi = yardstick._scvi()
    scvi.settings.seed = seed
    scvi.model.TOTALVI.setup_anndata(
        reference, protein_expression_obsm_key=PROTEINS, batch_key="batch"
    )
    made = scvi.model.TOTALVI(reference, **SETTINGS)
    made.train(max_epochs=EPOCHS, **QUIET)
    return made


def _their_imputation(query: anndata.AnnData, theirs: Any) -> Floats:
    mapped = yardstick._scvi().model.TOTALVI.load_query_data(query, theirs)
    plan = {"weight_decay": 0.0}
    mapped.train(max_epochs=QUERY_EPOCHS, plan_kwargs=plan, **QUIET)
    _, proteins = mapped.get_normalized_expression(
        transform_batch="pbmc10k_v3", n_samples=25, return_mean=True
    )
    return np.asarray(proteins, dtype=np.float64)


def _manifest(reference: anndata.AnnData, seed: int) -> Manifest:
    total = np.asarray(_features(reference).sum(axis=0)).ravel() + 1e-3
    names = (*reference.var_names, *(f"{name}-protein" for name in reference.obsm[PROTEINS]))
    counts = {"gene": reference.n_vars, "protein": len(names) - reference.n_vars}
    return Manifest.model_validate(
        {
            "name": "bench",
            "version": 1,
            "kind": "totalvi",
            "architecture": {
                **DEFAULTS["totalvi"],
                "n_genes": counts["gene"],
                "n_proteins": counts["protein"],
            },
            "genes": {
                "ids": names,
                "modalities": [{"kind": kind, "count": n} for kind, n in counts.items()],
            },
            "batch": {"key": "batch", "categories": ("pbmc10k_v3",)},
            "expected_expression": tuple(total / total.sum()),
            **of_nowhere(reference.n_obs, seed),
        }
    )


def _features(cells: anndata.AnnData) -> sp.csr_matrix:
    """Genes, then proteins."""
    proteins: pd.DataFrame = cells.obsm[PROTEINS]
    return sp.hstack([cells.X, sp.csr_matrix(proteins.to_numpy())], format="csr", dtype=np.float32)


def _our_reference(manifest: Manifest, reference: anndata.AnnData, seed: int) -> TOTALVI:
    x = torch.from_numpy(_features(reference).toarray())
    cells = with_measured(
        Cells(x, (torch.zeros(len(x), dtype=torch.int64),)), manifest.architecture.n_proteins
    )
    plan = TrainingPlan("cpu", seed)
    network = plan.draw(manifest)
    plan.train(network, manifest, cells, lambda _share: None, n_cells=len(x))
    assert isinstance(network, TOTALVI)
    return network


def _our_imputation(manifest: Manifest, network: TOTALVI, query: anndata.AnnData) -> Floats:
    for parameter in network.eval().parameters():
        parameter.requires_grad_(False)
    design = design_query(query.obs, manifest, batch_key=["batch"])
    counts = AlignedCounts.of_panel(_features(query))
    surgery = QuerySurgery(manifest, network, counts, design)
    projected = surgery.project(lambda _share: None)
    weights = surgery.weights(surgery.fit(projected, RECIPES["default"], lambda _share: None))
    blocks = [
        decode_block(grafted, "protein_foreground", projection, cells, batch=0)
        for grafted, projection, cells in surgery.blocks_to_decode(projected, weights)
    ]
    return torch.cat(blocks).double().numpy()
