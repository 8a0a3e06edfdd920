"""The results of a mapping: listed and downloaded."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from app.mappings import find_mapping
from app.problems import (
    FileGone,
    MappingNotFinished,
    NotAcceptable,
    RangeNotSatisfiable,
    UnknownMapping,
    UnknownResult,
)
from app.routes.access import Reader, Served
from app.routes.answers import problems
from app.routes.bodies import Listed, ResultItem
from app.routes.downloads import StoredFile, send_file
from app.routes.negotiation import choose_format
from app.routes.shapes import result_item
from app.service import Service
from app.tables import Job

router = APIRouter(prefix="/mappings/{mapping_id}/results", tags=["results"])


@router.get("", responses=problems(UnknownMapping, MappingNotFinished))
def list_results(service: Served, caller: Reader, mapping_id: str) -> Listed[ResultItem]:
    results, _ = _results(service, caller.owner, mapping_id)
    return Listed(items=[result_item(mapping_id, result) for result in results])


@router.get(
    "/{name}",
    summary="Download a result; `latent` comes as parquet, csv or npy by Accept",
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The file."},
        206: {"description": "The range that was asked for."},
        **problems(
            UnknownMapping,
            UnknownResult,
            MappingNotFinished,
            NotAcceptable,
            RangeNotSatisfiable,
            FileGone,
        ),
    },
)
def download(
    request: Request, service: Served, caller: Reader, mapping_id: str, name: str
) -> Response:
    results, prefix = _results(service, caller.owner, mapping_id)
    by_name = {result["name"]: result for result in results}
    extra: dict[str, str] = {}
    if name == "latent":
        name = choose_format(request.headers.get("accept"), sorted(by_name))
        extra = {"Vary": "Accept", "Content-Location": f"{request.url.path}.{name.split('.')[-1]}"}
    result = by_name.get(name)
    if result is None:
        raise UnknownResult(
            f"Mapping {mapping_id} has no result {name!r}. It has: {', '.join(by_name)}.",
            fix="Use one of these names.",
            available=list(by_name),
        )
    file = StoredFile(
        key=f"{prefix}/{name}",
        name=name,
        bytes=result["bytes"],
        sha256=result["sha256"],
        media_type=result["media_type"],
    )
    return send_file(request, service.storage, file, extra_headers=extra)


def _results(service: Service, owner: str, mapping_id: str) -> tuple[list[dict[str, Any]], str]:
    with service.database.reading() as session:
        mapping = find_mapping(session, owner=owner, mapping_id=mapping_id)
        if mapping.results is not None and mapping.results_prefix is not None:
            return mapping.results, mapping.results_prefix
        state = session.get_one(Job, mapping.job_id).state
    waits = state in {"queued", "running"}
    raise MappingNotFinished(
        f"Mapping {mapping_id} is {state}, so it has no results.",
        fix=f"Wait for it: GET /v1/mappings/{mapping_id}?wait=60."
        if waits
        else "Its `problem` says why; correct that and map again.",
        state=state,
    )
