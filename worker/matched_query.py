"""A canonical query beside a loaded reference: genes matched, covariates resolved, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from app.coverage import Coverage, coverage_of
from app.gene_admission import check_genes
from app.problems import InputKindMismatch, NoCells
from app.wanted_outputs import WantedOutput, wanted_outputs
from models_store.gene_matching import GeneMatch
from models_store.manifest import Manifest
from models_store.recipe import Recipe
from worker.alignment import AlignedCounts
from worker.canonical import CanonicalQuery
from worker.covariates import QueryDesign, design_query
from worker.experiment import DesignKeys
from worker.grafting import QuerySurgery
from worker.orders import MapOrder, ShardOrder
from worker.reference_cache import LoadedReference, ReferenceCache


@dataclass(frozen=True)
class MatchedQuery:
    """All that a mapping, or a shard of one, works with."""

    reference: LoadedReference
    query: CanonicalQuery
    obs: pd.DataFrame
    match: GeneMatch
    coverage: Coverage
    counts: AlignedCounts
    surgery: QuerySurgery
    recipe: Recipe
    outputs: list[WantedOutput]


def match_query(order: MapOrder | ShardOrder, references: ReferenceCache) -> MatchedQuery:
    """Load the reference and open the query of an order.

    Raises:
        Problem: the query and the reference do not fit together, with what to do about it.
    """
    reference = references.get(order.bundle, order.manifest_sha256, order.device)
    manifest = reference.manifest
    query = CanonicalQuery.open(order.canonical)
    match, coverage = _match(query, manifest, force=bool(order.options.get("force")))
    obs, counts = query.obs(), AlignedCounts(query, match)
    design = _design(obs, manifest, order.options)
    return MatchedQuery(
        reference=reference,
        query=query,
        obs=obs,
        match=match,
        coverage=coverage,
        counts=counts,
        surgery=QuerySurgery(manifest, reference.cvae, counts, design, among=reference.latents),
        recipe=manifest.recipe(order.options.get("recipe") or "default"),
        outputs=wanted_outputs(order.options, manifest),
    )


def _match(query: CanonicalQuery, manifest: Manifest, *, force: bool) -> tuple[GeneMatch, Coverage]:
    if query.n_cells == 0:
        raise NoCells("The query has no cells.", fix="Upload a file with at least one cell.")
    if query.input != manifest.input:
        raise InputKindMismatch(
            f"The reference expects {manifest.input} and the query was uploaded as {query.input}.",
            fix=f"Upload the query again with `input={manifest.input}`.",
        )
    genes = query.genes()
    match = manifest.match_genes(genes)
    coverage = coverage_of(match, genes, manifest)
    check_genes(coverage, manifest, force=force)
    return match, coverage


def _design(obs: pd.DataFrame, manifest: Manifest, options: dict[str, Any]) -> QueryDesign:
    return design_query(
        obs,
        manifest,
        batch_key=options.get("batch_key"),
        labels_key=options.get("labels_key"),
        reuse_batches=bool(options.get("reuse_batches")),
        size_factor_key=options.get("size_factor_key"),
        design=DesignKeys.of(options),
    )
