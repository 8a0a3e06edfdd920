"""Upload and map in one call."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from app import mappings
from app.admission import needed_columns
from app.aliases import resolve
from app.keys import Principal
from app.problems import (
    Forbidden,
    MalformedRequest,
    ReferenceNotReady,
    UnknownOutput,
    UnknownReference,
)
from app.references import find_usable_version
from app.routes.access import Served, Submitter
from app.routes.answers import problems
from app.routes.arrivals import FILE_BODY, UPLOAD_PROBLEMS, arrive, other_parts
from app.routes.bodies import MappingBody
from app.routes.shapes import mapping_body
from app.routes.upload_options import MapOptions, MapQuery, safe_filename, with_fields
from app.service import Service
from app.submissions import submit_file
from app.wanted_outputs import wanted_outputs

router = APIRouter(prefix="/map", tags=["mappings"])

MAP: dict[str, Any] = {
    "status_code": 202,
    "responses": problems(
        Forbidden,
        MalformedRequest,
        UnknownReference,
        ReferenceNotReady,
        UnknownOutput,
        *UPLOAD_PROBLEMS,
    ),
    "openapi_extra": FILE_BODY,
}


@router.put("/", include_in_schema=False, **MAP)
@router.post("/", include_in_schema=False, **MAP)
@router.put("", summary="Upload and map (`curl -T FILE`)", operation_id="put_map", **MAP)
@router.post("", summary="Upload and map (`curl -F file=@FILE`)", operation_id="post_map", **MAP)
async def upload_and_map(
    request: Request, response: Response, service: Served, caller: Submitter, options: MapQuery
) -> MappingBody:
    """202 at the mapping, which waits until its file is checked; both are durable by then."""
    return await _map(request, response, service, caller, options, None)


@router.put("/{filename}", summary="Upload and map (`curl -T FILE .../map/`)", **MAP)
async def upload_named_and_map(
    request: Request,
    response: Response,
    service: Served,
    caller: Submitter,
    filename: str,
    options: MapQuery,
) -> MappingBody:
    return await _map(request, response, service, caller, options, filename)


async def _map(
    request: Request,
    response: Response,
    service: Service,
    caller: Principal,
    options: MapOptions,
    filename: str | None,
) -> MappingBody:
    # A wrong reference is said before the file travels; a form may name it after the file.
    if options.reference is not None:
        await to_thread.run_sync(_check_reference, service, caller, options)
    elif "multipart" not in request.headers.get("content-type", ""):
        options.mapping_request("")
    async with arrive(request, service, options.sha256) as received:
        options = with_fields(options, received.fields)
        mapping_request = options.mapping_request("")

        def keep() -> MappingBody:
            # Before the bytes are kept; and what the reference needs of obs is kept with them.
            needed = _check_reference(service, caller, options)
            needed += [clause.column for clause in options.clauses()]
            with service.database.writing() as session:
                mapping = submit_file(
                    session,
                    service.bell,
                    owner=caller.owner,
                    staged=received.staged,
                    others=other_parts(received),
                    storage=service.storage,
                    filename=safe_filename(received.filename or filename),
                    query_options=options.query_options(
                        obs_policy=service.obs_policy, needed=needed
                    ),
                    request=mapping_request,
                    max_attempts=service.max_attempts,
                    caller=caller,
                )
            with service.database.reading() as session:
                row = mappings.find_mapping(session, owner=caller.owner, mapping_id=mapping.id)
                return mapping_body(mappings.view_mapping(session, row))

        body = await service.uploads.keep(keep)
    response.headers["Location"] = body.links["self"]
    return body


def _check_reference(service: Service, caller: Principal, options: MapOptions) -> list[str]:
    """Whether it can be mapped onto and gives what is asked for; the obs columns that it needs
    besides the batches'."""
    assert options.reference is not None
    with service.database.reading() as session:
        asked = resolve(session, options.reference, options.version, caller=caller)
        version = find_usable_version(session, asked.name, asked.version, caller=caller)
        manifest = service.genes.manifest(version)
    wanted_outputs(options.mapping_request("").options(), manifest)
    return needed_columns(manifest)
