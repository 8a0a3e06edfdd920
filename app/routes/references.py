"""The registry of references, and building one from an uploaded query."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.problems import (
    Forbidden,
    MalformedRequest,
    QueryRejected,
    ReferenceExists,
    ReferenceNotReady,
    UnknownQuery,
    UnknownReference,
)
from app.references import (
    find_version,
    list_versions,
    not_ready,
    submit_build,
    version_prefix,
)
from app.routes.access import Administrator, Reader, Served
from app.routes.answers import problems
from app.routes.bodies import BuildIn, Listed, ReferenceBody
from app.routes.downloads import StoredFile, send_file
from app.routes.shapes import reference_body, version_path
from app.service import Service
from app.tables import Job, ReferenceVersion
from models_store.manifest import Manifest

PARQUET = "application/vnd.apache.parquet"

router = APIRouter(prefix="/references", tags=["references"])


@router.get("", summary="All references, each at its default version")
def list_references(service: Served, caller: Reader) -> Listed[ReferenceBody]:
    with service.database.reading() as session:
        by_name: dict[str, list[ReferenceVersion]] = {}
        for version in list_versions(session):
            by_name.setdefault(version.name, []).append(version)
        items = [
            _body(service, session, _default_of(versions), versions=versions)
            for versions in by_name.values()
        ]
    return Listed(items=items)


@router.post(
    "",
    status_code=202,
    summary="Build a reference from an uploaded query",
    responses=problems(Forbidden, UnknownQuery, QueryRejected, ReferenceExists, MalformedRequest),
)
def build(
    service: Served, caller: Administrator, body: BuildIn, response: Response
) -> ReferenceBody:
    """The next version of the name; follow it at `Location` until it is ready or failed."""
    options = body.model_dump(exclude={"query", "name", "labels_key"})
    if body.labels_key and body.labels_key not in body.labels_keys:
        options["labels_keys"] = [body.labels_key, *body.labels_keys]
    with service.database.writing() as session:
        version = submit_build(
            session,
            service.bell,
            owner=caller.owner,
            name=body.name,
            query_id=body.query,
            options=options,
            max_attempts=service.max_attempts,
        )
    response.headers["Location"] = version_path(version)
    with service.database.reading() as session:
        return _body(service, session, session.get_one(ReferenceVersion, version.id))


@router.get("/{name}", summary="A reference", responses=problems(UnknownReference))
def reference(service: Served, caller: Reader, name: str) -> ReferenceBody:
    """Its newest ready version, or the newest one while none is ready; and all versions."""
    with service.database.reading() as session:
        versions = [each for each in list_versions(session) if each.name == name]
        chosen = _default_of(versions) if versions else find_version(session, name)
        return _body(service, session, chosen, versions=versions)


@router.get("/{name}/versions/{version}", responses=problems(UnknownReference))
def reference_version(service: Served, caller: Reader, name: str, version: int) -> ReferenceBody:
    with service.database.reading() as session:
        return _body(service, session, find_version(session, name, version))


@router.get(
    "/{name}/genes",
    summary="The gene panel, in order",
    responses=problems(UnknownReference, ReferenceNotReady),
)
def genes(service: Served, caller: Reader, name: str) -> dict[str, Any]:
    return _genes(_built(service, name, None))


@router.get(
    "/{name}/versions/{version}/genes", responses=problems(UnknownReference, ReferenceNotReady)
)
def version_genes(service: Served, caller: Reader, name: str, version: int) -> dict[str, Any]:
    return _genes(_built(service, name, version))


@router.head("/{name}/cells.parquet", include_in_schema=False)
@router.get(
    "/{name}/cells.parquet",
    summary="Latent coordinates and labels of the reference's cells",
    responses=problems(UnknownReference, ReferenceNotReady),
)
def cells(request: Request, service: Served, caller: Reader, name: str) -> Response:
    return _send_cells(request, service, _built(service, name, None))


@router.head("/{name}/versions/{version}/cells.parquet", include_in_schema=False)
@router.get(
    "/{name}/versions/{version}/cells.parquet",
    responses=problems(UnknownReference, ReferenceNotReady),
)
def version_cells(
    request: Request, service: Served, caller: Reader, name: str, version: int
) -> Response:
    return _send_cells(request, service, _built(service, name, version))


def _default_of(versions: list[ReferenceVersion]) -> ReferenceVersion:
    ready = [version for version in versions if version.state == "ready"]
    return (ready or versions)[-1]


def _built(service: Service, name: str, number: int | None) -> Manifest:
    with service.database.reading() as session:
        version = find_version(session, name, number)
        if version.state not in {"ready", "deprecated"}:
            raise not_ready(version)
        return service.genes.manifest(version)


def _genes(manifest: Manifest) -> dict[str, Any]:
    columns: dict[str, Any] = {
        kind: list(names) for kind, names in manifest.genes.columns().items()
    }
    return {
        "name": manifest.name,
        "version": manifest.version,
        "n_genes": len(manifest.genes.ids),
        **columns,
    }


def _send_cells(request: Request, service: Service, manifest: Manifest) -> Response:
    key = f"{version_prefix(manifest.name, manifest.version)}/cells.parquet"
    if not service.storage.exists(key):
        raise UnknownReference(
            f"Reference {manifest.name} has no cells to show.", fix="It was made without them."
        )
    name = f"{manifest.name}-{manifest.version}-cells.parquet"
    size = service.storage.size(key)
    digest = manifest.files.get("cells.parquet", f"{manifest.name}-{manifest.version}")
    return send_file(request, service.storage, StoredFile(key, name, size, digest, PARQUET))


def _body(
    service: Service,
    session: Session,
    version: ReferenceVersion,
    *,
    versions: list[ReferenceVersion] | None = None,
) -> ReferenceBody:
    job = session.get_one(Job, version.job_id)
    built = version.manifest_sha256 is not None
    return reference_body(
        version,
        job,
        service.genes.manifest(version) if built else None,
        versions=versions,
        model_card=_model_card(service, version) if built else None,
    )


def _model_card(service: Service, version: ReferenceVersion) -> str | None:
    key = f"{version_prefix(version.name, version.version)}/MODEL_CARD.md"
    if not service.storage.exists(key):
        return None
    return b"".join(service.storage.read(key, 0, service.storage.size(key))).decode()
