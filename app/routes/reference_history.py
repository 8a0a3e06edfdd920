"""Two reference versions compared, and what depends on one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from app.aliases import resolve
from app.comparison import compare_manifests
from app.impact import impact_of
from app.keys import Principal
from app.problems import Forbidden, MalformedRequest, ReferenceNotReady, UnknownReference
from app.references import find_built_version
from app.routes.access import Administrator, Reader, Served
from app.routes.answers import problems
from app.routes.bodies import Name
from app.routes.reference_bodies import ComparisonBody, ImpactBody
from app.service import Service
from models_store.manifest import Manifest

router = APIRouter(prefix="/references", tags=["references"])


@router.get(
    "/{name}/versions/{version}/comparison",
    summary="What is different in another version",
    responses=problems(UnknownReference, ReferenceNotReady, MalformedRequest),
)
def comparison(
    service: Served,
    caller: Reader,
    name: str,
    version: int,
    other: Annotated[
        Name, Query(alias="with", description="The later one: NAME, NAME@VERSION or NAME@ALIAS.")
    ],
) -> ComparisonBody:
    before = _manifest(service, caller, f"{name}@{version}")
    return ComparisonBody(**asdict(compare_manifests(before, _manifest(service, caller, other))))


@router.get(
    "/{name}/versions/{version}/impact",
    summary="The mappings of all owners that were made with a version",
    responses=problems(Forbidden, UnknownReference, MalformedRequest),
)
def impact(
    service: Served,
    caller: Administrator,
    name: str,
    version: int,
    *,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
    alias_moved: Annotated[
        bool, Query(description="Only those whose alias names another version now.")
    ] = False,
) -> ImpactBody:
    with service.database.reading() as session:
        found = impact_of(
            session,
            name=name,
            version=version,
            limit=limit,
            cursor=cursor,
            alias_moved=alias_moved,
        )
    return ImpactBody(**asdict(found))


def _manifest(service: Service, caller: Principal, reference: str) -> Manifest:
    with service.database.reading() as session:
        named = resolve(session, reference, caller=caller)
        version = find_built_version(session, named.name, named.version, caller=caller)
        return service.genes.manifest(version)
