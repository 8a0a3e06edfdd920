"""The mapping pipeline: a canonical query and a bundle in, result files and a summary out."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch

from app.problems import InputKindMismatch, NoCells, NotFinite, TooFewGenes
from models_store.encoding import label_probabilities
from models_store.manifest import GeneMatch, Manifest, Recipe
from models_store.scanvi import SCANVI
from worker.alignment import AlignedCounts
from worker.canonical import CanonicalQuery
from worker.covariates import QueryDesign, design_query
from worker.grafting import QuerySurgery
from worker.obs import listed
from worker.orders import MapOrder, Report
from worker.predictions import write_labels
from worker.provenance import MappedQuery, provenance, summary
from worker.reference_cache import ReferenceCache
from worker.results import (
    BATCH,
    EMPTY,
    added_columns,
    write_annotated_h5ad,
    write_latent,
    write_weights,
)

QUERY_WEIGHTS_FILE = "query_weights.safetensors"
PROVENANCE_FILE = "provenance.json"

STAGES = {"loading": 0.0, "reading": 0.02, "fitting": 0.15, "encoding": 0.85, "writing": 0.9}
"""Where each stage begins on the way from 0 to 1."""


class Stages:
    """Says which stage a mapping is in, and keeps the seconds of each."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator["Stages"]:
        began = time.monotonic()
        self._begin, self._name = STAGES[name], name
        self._span = min([s for s in STAGES.values() if s > self._begin], default=1.0) - self._begin
        self.progress(0.0)
        yield self
        self.seconds[name] = round(time.monotonic() - began, 3)

    def progress(self, share: float) -> None:
        self._report(self._name, self._begin + self._span * share)


def run_mapping(order: MapOrder, references: ReferenceCache, report: Report) -> dict[str, Any]:
    """Map a query and write every result file into the order's folder.

    Raises:
        Problem: the query and the reference do not fit together, with what to do about it.
    """
    stages = Stages(report)
    with stages.stage("loading"):
        reference = references.get(order.bundle, order.manifest_sha256, order.device)
        manifest = reference.manifest
        query = CanonicalQuery.open(order.canonical)
        match = _match(query, manifest)
        obs = query.obs()
        design = _design(obs, manifest, order.options)
        recipe = manifest.recipe(order.options.get("recipe") or "default")
    surgery = QuerySurgery(manifest, reference.cvae, AlignedCounts(query, match), design)
    columns = added_columns(obs, labelled=manifest.kind == "scanvi")
    mapped = _map(surgery, recipe, match, columns, stages)
    _refuse_infinite(mapped)
    with stages.stage("writing"):
        return _write(order, reference.manifest_sha256, query, obs, mapped, stages)


def _map(
    surgery: QuerySurgery,
    recipe: Recipe,
    match: GeneMatch,
    columns: dict[str, str],
    stages: Stages,
) -> MappedQuery:
    with stages.stage("reading"):
        projected = surgery.project(stages.progress)
    with stages.stage("fitting"):
        fits = surgery.fit(projected, recipe, stages.progress)
    with stages.stage("encoding"):
        weights = surgery.weights(fits)
        return MappedQuery(
            surgery=surgery,
            recipe=recipe,
            match=match,
            fits=fits,
            weights=weights,
            latents=surgery.encode(projected, weights),
            forward=surgery.encode(projected, None),
            empty=~projected.occupied,
            columns=columns,
        )


def _refuse_infinite(mapped: MappedQuery) -> None:
    """Numbers that are not finite would pass for results in whatever reads them next."""
    latents = mapped.latents.mean
    cells = int((~torch.isfinite(latents).all(dim=1)).sum())
    batches = [
        each.group.name
        for each in mapped.fits
        if each.fit and not np.isfinite((each.fit.elbo_before, each.fit.elbo_after)).all()
    ]
    if cells:
        found = f"The coordinates of {cells:,} of {len(latents):,} cells are not finite."
    elif batches:
        found = f"The ELBO of {listed(batches, most=5)} is not finite."
    else:
        return
    raise NotFinite(
        found,
        fix="Check that the values are on the reference's scale, then upload them again. If they "
        "are, try recipe `forward`, which fits nothing.",
    )


def _match(query: CanonicalQuery, manifest: Manifest) -> GeneMatch:
    if query.n_cells == 0:
        raise NoCells("The query has no cells.", fix="Upload a file with at least one cell.")
    if query.input != manifest.input:
        raise InputKindMismatch(
            f"The reference expects {manifest.input} and the query was uploaded as {query.input}.",
            fix=f"Upload the query again with `input={manifest.input}`.",
        )
    columns = query.gene_columns()
    match = manifest.match_genes(columns)
    share = match.n_matched / match.n_panel
    if match.n_matched == 0 or share < manifest.thresholds.refuse_below:
        theirs = ", ".join(next(iter(columns.values()))[:3])
        ours = ", ".join(manifest.genes.ids[:3])
        raise TooFewGenes(
            f"The query has {match.n_matched} of the reference's {match.n_panel} genes. Its genes "
            f"look like {theirs}; the reference's like {ours}.",
            fix="Name genes as the reference does, in the var index or in a var column, or choose "
            "a reference of this species and annotation.",
            n_matched=match.n_matched,
            n_panel=match.n_panel,
        )
    return match


def _design(obs: pd.DataFrame, manifest: Manifest, options: dict[str, Any]) -> QueryDesign:
    return design_query(
        obs,
        manifest,
        batch_key=options.get("batch_key"),
        labels_key=options.get("labels_key"),
        reuse_batches=bool(options.get("reuse_batches")),
        size_factor_key=options.get("size_factor_key"),
    )


def _write(
    order: MapOrder,
    manifest_sha256: str,
    query: CanonicalQuery,
    obs: pd.DataFrame,
    mapped: MappedQuery,
    stages: Stages,
) -> dict[str, Any]:
    latent = np.ascontiguousarray(mapped.latents.mean.cpu().numpy(), dtype=np.float32)
    write_latent(order.out, obs.index, latent)
    stages.progress(0.3)
    write_weights(order.out / QUERY_WEIGHTS_FILE, mapped.weights, mapped.weights_metadata())
    extra: dict[str, Any] = {
        mapped.columns[BATCH]: mapped.batch_names(),
        mapped.columns[EMPTY]: mapped.empty,
    }
    cvae = mapped.surgery.cvae
    if isinstance(cvae, SCANVI):
        labels = mapped.surgery.manifest.labels[0].categories
        blocks = label_probabilities(cvae, mapped.latents.mean)
        extra |= write_labels(order.out, obs.index, labels, blocks).columns(mapped.columns)
    added = pd.DataFrame(extra, index=obs.index)
    write_annotated_h5ad(order.out / "query.h5ad", query, latent, added)
    stages.progress(0.9)
    told = json.dumps(provenance(order, manifest_sha256, mapped, stages.seconds), indent=1)
    (order.out / PROVENANCE_FILE).write_text(told + "\n", encoding="utf-8")
    return summary(mapped, query.n_cells, stages.seconds)
