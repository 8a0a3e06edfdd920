"""The mapping pipeline: a canonical query and a bundle in, result files and a summary out."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch

from app.problems import NotFinite
from app.shards import READ_PROGRESS
from models_store.encoding import label_probabilities
from models_store.scanvi import SCANVI
from worker.chosen_cells import Choice, chosen_cells
from worker.decoded_values import write_outputs
from worker.explained import Explained, explain_sample
from worker.matched_query import MatchedQuery, match_query
from worker.obs import listed
from worker.orders import MapOrder, Report
from worker.packed_counts import OwnCounts, StoredCounts
from worker.predictions import write_labels
from worker.projected_query import ProjectedQuery
from worker.provenance import MappedQuery, provenance, summary
from worker.reference_cache import ReferenceCache
from worker.results import (
    BATCH,
    CELL,
    EMPTY,
    added_columns,
    annotated_obs,
    write_annotated_h5ad,
    write_latent,
    write_weights,
)
from worker.shards import MadeBy, are_made_by, read_shards

QUERY_WEIGHTS_FILE = "query_weights.safetensors"
PROVENANCE_FILE = "provenance.json"
PROJECTIONS = "projections"

STAGES = {
    "loading": 0.0,
    "reading": 0.02,
    "fitting": READ_PROGRESS,
    "encoding": 0.84,
    "decoding": 0.86,
    "explaining": 0.89,
    "writing": 0.9,
}
"""Where each stage begins on the way from 0 to 1."""


class Stages:
    """Says which stage a mapping is in, and keeps the seconds of each."""

    def __init__(self, report: Report, *, begin: float = 0.0) -> None:
        """`begin`: the progress that was made before."""
        self._report, self._least = report, begin
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
        self._report(self._name, max(self._least, self._begin + self._span * share))


def run_mapping(order: MapOrder, references: ReferenceCache, report: Report) -> dict[str, Any]:
    """Map a query and write every result file into the order's folder.

    Raises:
        Problem: the query and the reference do not fit together, with what to do about it.
    """
    stages = Stages(report, begin=READ_PROGRESS if order.shards else 0.0)
    with chosen_cells(order) as (chosen, choice):
        with stages.stage("loading"):
            matched = match_query(chosen, references)
        with _projections_folder(chosen.out):
            mapped = _map(matched, chosen, choice, stages)
        _refuse_infinite(mapped)
        with stages.stage("writing"):
            return _write(chosen, matched, mapped, stages)


@contextmanager
def _projections_folder(out: Path) -> Iterator[None]:
    """What is in it by the end is no result."""
    folder = out / PROJECTIONS
    folder.mkdir()
    try:
        yield
    finally:
        rmtree(folder)


def _map(
    matched: MatchedQuery, order: MapOrder, choice: Choice | None, stages: Stages
) -> MappedQuery:
    surgery, recipe = matched.surgery, matched.recipe
    with stages.stage("reading"):
        # A worker of another kind would not have made the same bytes: then all is read again.
        shards = order.shards if are_made_by(order.shards, MadeBy.order(order)) else ()
        folder = order.out / PROJECTIONS
        projected = read_shards(shards) if shards else surgery.project(stages.progress, folder)
    with stages.stage("fitting"):
        fits = surgery.fit(projected, recipe, stages.progress)
    with stages.stage("encoding"):
        weights = surgery.weights(fits)
        placed = surgery.place(projected, weights, stages.progress)
    if matched.outputs:
        with stages.stage("decoding"):
            write_outputs(order.out, matched, projected, weights, stages.progress)
    with stages.stage("explaining"):
        explained = _explain(matched, order, projected)
    return MappedQuery(
        surgery=surgery,
        recipe=recipe,
        match=matched.match,
        coverage=matched.coverage,
        fits=fits,
        weights=weights,
        placed=placed,
        explained=explained,
        empty=~projected.occupied,
        n_shards=len(shards),
        origin=matched.query.origin,
        choice=choice,
        columns=added_columns(
            matched.obs,
            labelled=surgery.manifest.kind == "scanvi",
            repeated=not matched.obs.index.is_unique,
        ),
    )


def _explain(matched: MatchedQuery, order: MapOrder, projected: ProjectedQuery) -> Explained:
    occupied = np.flatnonzero(projected.occupied)
    return explain_sample(
        matched.reference,
        order.bundle,
        matched.counts,
        matched.match,
        cells=occupied,
        hashes=projected.hashes[occupied],
    )


def _refuse_infinite(mapped: MappedQuery) -> None:
    """Numbers that are not finite would pass for results in whatever reads them next."""
    latents = mapped.placed.mean
    cells = int((~np.isfinite(latents).all(axis=1)).sum())
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


def _write(
    order: MapOrder, matched: MatchedQuery, mapped: MappedQuery, stages: Stages
) -> dict[str, Any]:
    query, obs = matched.query, matched.obs
    latent = mapped.placed.mean
    write_latent(order.out, obs.index, latent)
    stages.progress(0.3)
    write_weights(order.out / QUERY_WEIGHTS_FILE, mapped.weights, mapped.weights_metadata())
    extra: dict[str, Any] = {
        mapped.columns[BATCH]: mapped.batch_names(),
        mapped.columns[EMPTY]: mapped.empty,
    }
    if CELL in mapped.columns:
        extra[mapped.columns[CELL]] = query.unique_names() or list(obs.index)
    cvae = mapped.surgery.cvae
    if isinstance(cvae, SCANVI):
        labels = mapped.surgery.manifest.labels[0].categories
        blocks = label_probabilities(cvae, torch.from_numpy(latent).to(mapped.surgery.device))
        extra |= write_labels(order.out, obs.index, labels, blocks).columns(mapped.columns)
    packed = StoredCounts(order.shards) if order.shards else OwnCounts(query, threads=order.threads)
    annotated = annotated_obs(obs, extra)
    write_annotated_h5ad(order.out / "query.h5ad", query, packed, annotated, latent)
    stages.progress(0.9)
    told = json.dumps(
        provenance(order, matched.reference.manifest_sha256, mapped, stages.seconds), indent=1
    )
    (order.out / PROVENANCE_FILE).write_text(told + "\n", encoding="utf-8")
    return summary(mapped, query.n_cells, stages.seconds)
