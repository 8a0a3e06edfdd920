"""What a new reference will be, before it is trained: its manifest without figures."""

import datetime
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
import torch

from app.problems import (
    NoCells,
    UnknownCovariate,
    UnknownDesignColumn,
    UnknownLabelsColumn,
    UntrainableReference,
)
from models_store.gene_panel import Genes
from models_store.manifest import Covariate, LabelLevel, Manifest, Provenance, Thresholds
from worker.batches import batch_names
from worker.canonical import CanonicalQuery
from worker.cell_columns import refuse_taken
from worker.covariates import depths_of, numbers_of, size_factors_of
from worker.feature_panel import choose_panel
from worker.labels import label_names
from worker.networks import draft_architecture, kind_of, with_features
from worker.obs import category_names, find_column
from worker.orders import BuildOrder

FEWEST_CELLS = 20


def draft_manifest(order: BuildOrder, query: CanonicalQuery) -> Manifest:
    """The manifest before training: genes chosen, covariates and labels listed.

    What is wrong with the options is told before genes are chosen, which can take minutes.

    Raises:
        Problem: a column is absent, there are too few cells, or the options contradict each other.
    """
    options, obs = order.options, query.obs()
    if query.n_cells < FEWEST_CELLS:
        raise NoCells(
            f"{query.n_cells} cells are too few to train a reference.",
            fix=f"Build from at least {FEWEST_CELLS} cells; thousands make a useful one.",
        )
    kind = kind_of(options)
    architecture = draft_architecture(options, query.input)
    batch = batch_values(obs, options.get("batch_key"))
    described = _columns(obs, batch, options)
    if kind == "scanvi":
        described |= _predicted_level(obs, described["labels"], options.get("unlabeled_category"))
    counts = query.rows(0, query.n_cells)
    chosen, panel = choose_panel(kind, query, counts, batch, options)
    return Manifest(
        name=order.name,
        version=order.version,
        kind=kind,
        input="continuous" if query.input == "continuous" else "counts",
        architecture=with_features(kind, architecture, panel.counts()),
        genes=panel,
        species=options.get("species"),
        thresholds=Thresholds.given(options.get("refuse_below"), options.get("warn_below")),
        expected_expression=_expected(counts, chosen, panel),
        licence=options.get("licence"),
        citation=options.get("citation"),
        provenance=_provenance(order, query),
        **described,
    )


def _columns(obs: pd.DataFrame, batch: pd.Series, options: dict[str, Any]) -> dict[str, Any]:
    """The parts of a manifest that columns of obs decide."""
    size_factor_key, depth_key = options.get("size_factor_key"), options.get("depth_key")
    continuous = tuple(options.get("continuous") or ())
    for key in continuous:
        numbers_of(obs, key)
    if size_factor_key:
        size_factors_of(obs, size_factor_key, may_be_zero=kind_of(options) == "multivi")
    if depth_key:
        depths_of(obs, depth_key)
    if (condition := options.get("condition_key")) is not None:
        fix = "Name one of these columns as condition_key, or leave it out."
        find_column(obs, condition, UnknownDesignColumn, fix=fix)
    return {
        "batch": Covariate(key=options.get("batch_key"), categories=_categories(batch)),
        "extra_covariates": tuple(
            _extra(obs, key) for key in options.get("extra_categorical") or ()
        ),
        "continuous_covariates": continuous,
        "size_factor_key": size_factor_key,
        "depth_key": depth_key,
        "labels": tuple(_labels(obs, key) for key in options.get("labels_keys") or ()),
    }


def batch_values(obs: pd.DataFrame, key: str | None) -> pd.Series:
    return batch_names(obs, () if key is None else (key,))


def _extra(obs: pd.DataFrame, key: str) -> Covariate:
    column = find_column(obs, key, UnknownCovariate, fix="Name an existing column as covariate.")
    return Covariate(key=key, categories=_categories(category_names(column)))


def _labels(obs: pd.DataFrame, key: str) -> LabelLevel:
    refuse_taken(key, UntrainableReference, fix="Name another column, or rename this one in obs.")
    fix = "Name one of these columns as labels key, or build without labels."
    column = find_column(obs, key, UnknownLabelsColumn, fix=fix)
    return LabelLevel(key=key, categories=_categories(category_names(column)))


def _predicted_level(
    obs: pd.DataFrame, levels: tuple[LabelLevel, ...], unlabeled: str | None
) -> dict[str, Any]:
    """The first level without the category that stands for no label, which no cell is given."""
    first, *others = levels
    categories = _categories(label_names(obs[first.key], unlabeled).dropna())
    if len(categories) < 2:
        raise UntrainableReference(
            f"obs[{first.key!r}] has {len(categories)} labels, and SCANVI tells labels apart: it "
            "needs two.",
            fix="Name another column of labels, or build kind SCVI.",
            errors=[{"pointer": f"/obs/{first.key}", "detail": "fewer than two labels"}],
        )
    level = first.model_copy(update={"categories": categories})
    return {"labels": (level, *others), "unlabeled_category": unlabeled}


def _categories(names: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(names.unique()))


def _expected(
    counts: sp.csr_matrix, chosen: npt.NDArray[np.int64], panel: Genes
) -> tuple[float, ...]:
    """Mean over cells of each feature's share of its kind's counts, by that kind's share of all.

    Kinds are counted by other assays, and a cell may lack one: shares of all of a cell's counts
    would say how much was sequenced for each.
    """
    runs = [counts[:, chosen[run]] for run in panel.slices().values() if run.stop > run.start]
    totals = np.array([float(run.sum(dtype=np.float64)) for run in runs])
    if not totals.sum() > 0:
        raise NoCells(
            "No cell has a count in the chosen genes.", fix="Choose genes that the cells express."
        )
    parts = [_shares(run) * weight for run, weight in zip(runs, totals / totals.sum(), strict=True)]
    return tuple(np.concatenate(parts).tolist())


def _shares(counts: sp.csr_matrix) -> npt.NDArray[np.float64]:
    """Mean over cells of each feature's share of these counts; zeros where there are none."""
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    weights = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)
    shares = np.asarray(counts.T @ weights, dtype=np.float64).ravel()
    whole = shares.sum()
    return shares / whole if whole > 0 else shares


def _provenance(order: BuildOrder, query: CanonicalQuery) -> Provenance:
    now = datetime.datetime.fromtimestamp(time.time(), tz=datetime.UTC)
    return Provenance(
        cellgraft_version=version("cellgraft"),
        torch_version=torch.__version__,
        source_sha256=order.source.get("sha256"),
        source_name=order.source.get("filename"),
        n_cells=query.n_cells,
        seed=order.options.get("seed", 0),
        created_at=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
