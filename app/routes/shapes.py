"""Rows into the JSON that clients see. Call these while the session is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from app.columns import utc_now
from app.coverage import Coverage
from app.mappings import MappingView
from app.moves import TERMINAL_STATES
from app.routes.bodies import (
    GeneCoverage,
    KeyItem,
    MappingBody,
    PartBody,
    QueryItem,
    ReferenceBody,
    ResultItem,
    VersionItem,
)
from app.tables import ApiKey, Job, Query, ReferenceVersion
from app.wanted_outputs import outputs_of
from models_store.manifest import BY_GENE, Manifest

CELLS_FILE = "cells.parquet"


def query_item(query: Query) -> QueryItem:
    here = f"/v1/queries/{query.id}"
    return QueryItem(
        id=query.id,
        state=query.state,
        terminal=query.state != "checking",
        created_at=query.created_at,
        updated_at=query.updated_at,
        links={
            "self": here,
            "mappings": f"/v1/mappings?query={query.id}",
            "ranking": f"{here}/ranking",
        },
        problem=query.problem,
        filename=query.filename,
        bytes=query.bytes,
        sha256=query.sha256,
        parts=query.parts and [PartBody(**_shown(part)) for part in query.parts],
        keeps_upload=query.keeps_upload,
        options=query.options,
        external_id=query.external_id,
        tags=query.tags,
    )


def _shown(part: dict[str, Any]) -> dict[str, Any]:
    return {name: part[name] for name in PartBody.model_fields}


def gene_coverage(version: ReferenceVersion, coverage: Coverage) -> GeneCoverage:
    figures = {
        name: value for name, value in asdict(coverage).items() if name in GeneCoverage.model_fields
    }
    return GeneCoverage(
        reference=version.name,
        version=version.version,
        licence=version.licence,
        citation=version.citation,
        advice=coverage.advice,
        **figures,
    )


def mapping_body(view: MappingView) -> MappingBody:
    mapping, job, version = view.mapping, view.job, view.version
    here = f"/v1/mappings/{mapping.id}"
    return MappingBody(
        id=mapping.id,
        state=job.state,
        terminal=job.state in TERMINAL_STATES,
        created_at=mapping.created_at,
        updated_at=max(mapping.created_at, job.updated_at),  # the job's row is the older one
        started_at=job.started_at,
        finished_at=job.finished_at,
        links={
            "self": here,
            "events": f"{here}/events",
            "results": f"{here}/results",
            "cancel": f"{here}/cancel",
            "query": f"/v1/queries/{mapping.query_id}",
            "reference": version_path(version),
        },
        problem=job.problem,
        query=mapping.query_id,
        reference=version.name,
        version=version.version,
        alias=mapping.reference_alias,
        reference_licence=version.licence,
        reference_citation=version.citation,
        recipe=mapping.options["recipe"],
        options=mapping.options,
        progress=job.progress,
        stage=job.stage,
        queue_position=view.queue_position,
        warnings=view.warnings,
        eta_seconds=eta_seconds(job),
        results=[result_item(mapping.id, result) for result in mapping.results or ()],
        summary=mapping.summary,
        verdict=(mapping.summary or {}).get("verdict"),
        cancel_requested=job.cancel_requested,
        attempt=job.attempt,
        external_id=mapping.external_id,
        tags=mapping.tags,
    )


def result_item(mapping_id: str, result: dict[str, Any]) -> ResultItem:
    here = f"/v1/mappings/{mapping_id}/results/{result['name']}"
    fields = ("name", "bytes", "sha256", "media_type")
    return ResultItem(links={"self": here}, **{name: result[name] for name in fields})


def eta_seconds(job: Job) -> float | None:
    """By the pace so far; nothing is promised before a twentieth is done."""
    if job.state != "running" or job.started_at is None or job.progress < 0.05:
        return None
    spent = (utc_now() - job.started_at).total_seconds()
    return round(spent / job.progress * (1 - job.progress), 1)


def version_item(version: ReferenceVersion) -> VersionItem:
    return VersionItem(
        version=version.version,
        state=version.state,
        licence=version.licence,
        citation=version.citation,
        links={"self": version_path(version)},
    )


def version_path(version: ReferenceVersion) -> str:
    return f"/v1/references/{version.name}/versions/{version.version}"


def reference_body(
    version: ReferenceVersion,
    job: Job,
    manifest: Manifest | None,
    *,
    cells: bool = True,
    versions: Sequence[ReferenceVersion] | None = None,
    model_card: str | None = None,
    successor: str | None = None,
    aliases: Mapping[str, int] | None = None,
) -> ReferenceBody:
    here = version_path(version)
    links = {"self": here, "reference": f"/v1/references/{version.name}"}
    if manifest is not None and version.bundle_prefix is not None:
        links["genes"] = f"{here}/genes"
        if cells and CELLS_FILE in manifest.files:
            links["cells"] = f"{here}/{CELLS_FILE}"
    return ReferenceBody(
        id=version.id,
        state=version.state,
        terminal=version.state != "building",
        created_at=version.created_at,
        updated_at=max(version.updated_at, job.updated_at),
        links=links,
        problem=version.problem,
        name=version.name,
        version=version.version,
        licence=version.licence,
        citation=version.citation,
        state_reason=version.state_reason,
        successor=successor,
        progress=job.progress,
        stage=job.stage,
        description=None if manifest is None else describe_manifest(manifest),
        recipe_evidence=None if manifest is None else manifest.recipe_evidence,
        model_card=model_card,
        aliases=dict(aliases or {}),
        versions=None if versions is None else [version_item(each) for each in versions],
    )


def describe_manifest(manifest: Manifest) -> dict[str, Any]:
    """The manifest without what is as long as the gene panel, and what the answer has beside it."""
    beside = {"name", "version", "recipe_evidence"}
    told = manifest.model_dump(mode="json", exclude={*BY_GENE, "genes", "files", *beside})
    told |= counted(manifest)
    told["gene_columns"] = list(manifest.genes.columns())
    told["gene_examples"] = list(manifest.genes.ids[:5])
    told["outputs"] = list(outputs_of(manifest))
    told["surgery_has_effect"] = manifest.surgery_has_effect
    return told


def counted(manifest: Manifest) -> dict[str, Any]:
    """How many features the panel has; of each kind, where they are not all genes."""
    counts = manifest.genes.counts()
    told: dict[str, Any] = {"n_genes": counts["gene"]}
    if manifest.genes.modalities is not None:
        told["features"] = {kind: number for kind, number in counts.items() if number}
    return told


def key_item(key: ApiKey) -> KeyItem:
    return KeyItem(
        id=key.id,
        name=key.name,
        owner=key.owner,
        scopes=key.scopes,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
        links={"self": f"/v1/keys/{key.id}"},
    )
