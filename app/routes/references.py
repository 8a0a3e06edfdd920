"""The registry of references, and building one from an uploaded query."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from app.keys import Principal
from app.problems import (
    Forbidden,
    MalformedRequest,
    QueryRejected,
    ReferenceExists,
    ReferenceNotReady,
    UnknownQuery,
    UnknownReference,
    UnsupportedMediaType,
)
from app.references import (
    default_version,
    find_built_version,
    find_version,
    list_versions,
    submit_build,
)
from app.routes.access import Administrator, Reader, Served
from app.routes.answers import problems
from app.routes.bodies import Listed, ReferenceBody
from app.routes.build_bodies import BuildIn
from app.routes.downloads import StoredFile, send_file, stored_size
from app.routes.reference_answers import reference_answer
from app.routes.shapes import CELLS_FILE, counted, version_path
from app.service import Service
from app.tables import ReferenceVersion
from app.visibility import shows_cells
from models_store.manifest import Manifest

PARQUET = "application/vnd.apache.parquet"

router = APIRouter(prefix="/references", tags=["references"])


@router.get("", summary="All references, each at its default version")
def list_references(service: Served, caller: Reader) -> Listed[ReferenceBody]:
    with service.database.reading() as session:
        by_name: dict[str, list[ReferenceVersion]] = {}
        for version in list_versions(session, caller=caller):
            by_name.setdefault(version.name, []).append(version)
        items = [
            reference_answer(service, session, default, caller=caller, versions=versions)
            for versions in by_name.values()
            if (default := default_version(versions)) is not None
        ]
    return Listed(items=items)


@router.post(
    "",
    status_code=202,
    summary="Build a reference from an uploaded query",
    responses=problems(
        Forbidden,
        UnknownQuery,
        QueryRejected,
        ReferenceExists,
        MalformedRequest,
        UnsupportedMediaType,
    ),
)
def build(
    service: Served, caller: Administrator, body: BuildIn, response: Response
) -> ReferenceBody:
    """The next version of the name; follow it at `Location` until it is ready or failed."""
    options = body.model_dump(exclude={"query", "name", "labels_key"})
    if body.labels_key and body.labels_key not in body.labels_keys:
        options["labels_keys"] = [body.labels_key, *body.labels_keys]
    version = service.database.write(
        partial(
            submit_build,
            bell=service.bell,
            owner=caller.owner,
            name=body.name,
            query_id=body.query,
            options=options,
            max_attempts=service.max_attempts,
        )
    )
    response.headers["Location"] = version_path(version)
    with service.database.reading() as session:
        return reference_answer(
            service, session, session.get_one(ReferenceVersion, version.id), caller=caller
        )


@router.get("/{name}", summary="A reference", responses=problems(UnknownReference))
def reference(service: Served, caller: Reader, name: str) -> ReferenceBody:
    """Its newest ready version, or the newest one while none is ready; and all versions."""
    with service.database.reading() as session:
        versions = [each for each in list_versions(session, caller=caller) if each.name == name]
        chosen = default_version(versions) or find_version(session, name, caller=caller)
        return reference_answer(service, session, chosen, caller=caller, versions=versions)


@router.get("/{name}/versions/{version}", responses=problems(UnknownReference))
def reference_version(service: Served, caller: Reader, name: str, version: int) -> ReferenceBody:
    with service.database.reading() as session:
        return reference_answer(
            service, session, find_version(session, name, version, caller=caller), caller=caller
        )


@router.get(
    "/{name}/genes",
    summary="The gene panel, in order",
    responses=problems(UnknownReference, ReferenceNotReady),
)
def genes(service: Served, caller: Reader, name: str) -> dict[str, Any]:
    return _genes(_built(service, caller, name, None)[1])


@router.get(
    "/{name}/versions/{version}/genes", responses=problems(UnknownReference, ReferenceNotReady)
)
def version_genes(service: Served, caller: Reader, name: str, version: int) -> dict[str, Any]:
    return _genes(_built(service, caller, name, version)[1])


@router.get(
    "/{name}/cells.parquet",
    summary="Latent coordinates and labels of the reference's cells",
    responses=problems(UnknownReference, ReferenceNotReady),
)
def cells(request: Request, service: Served, caller: Reader, name: str) -> Response:
    return _send_cells(request, service, caller, name, None)


@router.get(
    "/{name}/versions/{version}/cells.parquet",
    responses=problems(UnknownReference, ReferenceNotReady),
)
def version_cells(
    request: Request, service: Served, caller: Reader, name: str, version: int
) -> Response:
    return _send_cells(request, service, caller, name, version)


def _built(
    service: Service, caller: Principal, name: str, number: int | None
) -> tuple[ReferenceVersion, Manifest]:
    with service.database.reading() as session:
        version = find_built_version(session, name, number, caller=caller)
        return version, service.genes.manifest(version)


def _genes(manifest: Manifest) -> dict[str, Any]:
    columns: dict[str, Any] = {
        kind: list(names) for kind, names in manifest.genes.columns().items()
    }
    return {
        "name": manifest.name,
        "version": manifest.version,
        "licence": manifest.licence,
        "citation": manifest.citation,
        **counted(manifest),
        **columns,
    }


def _send_cells(
    request: Request, service: Service, caller: Principal, name: str, number: int | None
) -> Response:
    version, manifest = _built(service, caller, name, number)
    key = f"{version.bundle_prefix}/{CELLS_FILE}"
    digest = manifest.files.get(CELLS_FILE)
    with service.database.reading() as session:
        shown = shows_cells(session, name, caller)
    if digest is None or not shown:
        raise UnknownReference(
            f"Reference {version.name} has no cells to show.", fix="It was made without them."
        )
    shown_name = f"{version.name}-{version.version}-{CELLS_FILE}"
    file = StoredFile(key, shown_name, stored_size(service.storage, key), digest, PARQUET)
    return send_file(request, service.storage, file)
