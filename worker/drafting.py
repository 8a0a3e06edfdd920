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
from pydantic import ValidationError

from app.problems import (
    InputKindMismatch,
    NoCells,
    UnknownBatchColumn,
    UnknownCovariate,
    UnknownLabelsColumn,
    UntrainableReference,
)
from models_store.manifest import Architecture, Covariate, LabelLevel, Manifest, Provenance
from worker.canonical import CanonicalQuery
from worker.covariates import LONE_BATCH, category_names
from worker.orders import BuildOrder
from worker.panel import choose_genes, gene_table

FEWEST_CELLS = 20


def draft_manifest(order: BuildOrder, query: CanonicalQuery) -> Manifest:
    """The manifest before training: genes chosen, covariates and labels listed.

    Raises:
        Problem: a column is absent, there are too few cells, or the options contradict each other.
    """
    options, obs = order.options, query.obs()
    if query.n_cells < FEWEST_CELLS:
        raise NoCells(
            f"{query.n_cells} cells are too few to train a reference.",
            fix=f"Build from at least {FEWEST_CELLS} cells; thousands make a useful one.",
        )
    batch = batch_values(obs, options.get("batch_key"))
    counts = query.rows(0, query.n_cells)
    columns = query.gene_columns()
    chosen = choose_genes(
        counts, columns, batch, given=options.get("genes"), n_top=options.get("n_top_genes", 2000)
    )
    genes = gene_table(columns, chosen)
    architecture = _architecture(options, len(chosen))
    if query.input != ("continuous" if architecture.likelihood == "normal" else "counts"):
        raise InputKindMismatch(
            f"The file was uploaded as {query.input}, and likelihood {architecture.likelihood} "
            "needs the other kind of input.",
            fix="Use likelihood `normal` for continuous input and a count likelihood for counts.",
        )
    return Manifest(
        name=order.name,
        version=order.version,
        input="continuous" if query.input == "continuous" else "counts",
        architecture=architecture,
        genes=genes,
        species=options.get("species"),
        batch=Covariate(key=options.get("batch_key"), categories=tuple(sorted(batch.unique()))),
        extra_covariates=tuple(_extra(obs, key) for key in options.get("extra_categorical") or ()),
        continuous_covariates=tuple(options.get("continuous") or ()),
        size_factor_key=options.get("size_factor_key"),
        labels=tuple(_labels(obs, key) for key in options.get("labels_keys") or ()),
        expected_expression=_expected(counts, chosen),
        licence=options.get("licence"),
        citation=options.get("citation"),
        provenance=_provenance(order, query),
    )


def _architecture(options: dict[str, Any], n_genes: int) -> Architecture:
    wanted = dict(options.get("architecture") or {})
    if options.get("size_factor_key"):
        wanted.setdefault("library", "size_factor")
    try:
        architecture = Architecture(**wanted, n_genes=n_genes)
    except (ValidationError, TypeError) as error:
        raise UntrainableReference(
            f"The architecture options do not fit: {error}",
            fix="Use the option names and values that the manifest's `architecture` lists.",
        ) from error
    if (architecture.library == "size_factor") != bool(options.get("size_factor_key")):
        raise UntrainableReference(
            "library=size_factor and a size factor column belong together.",
            fix="Give both `size_factor_key` and library=size_factor, or neither.",
        )
    if architecture.dispersion == "gene-label" and not options.get("labels_keys"):
        raise UntrainableReference(
            "dispersion=gene-label needs a labels column.", fix="Name one with `labels_keys`."
        )
    return architecture


def batch_values(obs: pd.DataFrame, key: str | None) -> pd.Series:
    if key is None:
        return pd.Series(LONE_BATCH, index=obs.index, dtype=object)
    if key not in obs.columns:
        raise UnknownBatchColumn(
            f"The file's obs has no column {key!r}. It has: {', '.join(map(str, obs.columns))}.",
            fix="Name one of these columns as the batch key, or build without one.",
            errors=[{"pointer": f"/obs/{key}", "detail": "no such column"}],
        )
    return category_names(obs[key])


def _extra(obs: pd.DataFrame, key: str) -> Covariate:
    if key not in obs.columns:
        raise UnknownCovariate(
            f"The file's obs has no column {key!r}.",
            fix="Name an existing column as covariate.",
            errors=[{"pointer": f"/obs/{key}", "detail": "no such column"}],
        )
    return Covariate(key=key, categories=tuple(sorted(category_names(obs[key]).unique())))


def _labels(obs: pd.DataFrame, key: str) -> LabelLevel:
    if key not in obs.columns:
        raise UnknownLabelsColumn(
            f"The file's obs has no column {key!r}. It has: {', '.join(map(str, obs.columns))}.",
            fix="Name one of these columns as labels key, or build without labels.",
            errors=[{"pointer": f"/obs/{key}", "detail": "no such column"}],
        )
    return LabelLevel(key=key, categories=tuple(sorted(category_names(obs[key]).unique())))


def _expected(counts: sp.csr_matrix, chosen: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """Mean over cells of each gene's share of the panel's counts."""
    panel = counts[:, chosen]
    totals = np.asarray(panel.sum(axis=1, dtype=np.float64)).ravel()
    weights = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)
    shares = np.asarray(panel.T @ weights).ravel()
    whole = shares.sum()
    if not whole > 0:
        raise NoCells(
            "No cell has a count in the chosen genes.", fix="Choose genes that the cells express."
        )
    return tuple(float(share) for share in shares / whole)


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
