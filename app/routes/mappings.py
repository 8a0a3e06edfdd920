"""Asking for mappings, following and ending them."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from app import mappings
from app.problems import (
    AlreadyFinished,
    IdempotencyKeyInProgress,
    IdempotencyKeyReused,
    InputKindMismatch,
    MalformedRequest,
    QueryRejected,
    ReferenceNotReady,
    SpeciesMismatch,
    TooFewGenes,
    UnfitCellFilter,
    UnknownBatchColumn,
    UnknownControlValue,
    UnknownCovariate,
    UnknownDesignColumn,
    UnknownLabelsColumn,
    UnknownMapping,
    UnknownOutput,
    UnknownQuery,
    UnknownReference,
    UnsupportedMediaType,
)
from app.routes.access import Reader, Served, Submitter
from app.routes.answers import problems
from app.routes.bodies import Listed, MappingBody
from app.routes.downloads import names_etag
from app.routes.mapping_bodies import MappingIn
from app.routes.mapping_requests import admit
from app.routes.shapes import mapping_body
from app.routes.streams import event_stream
from app.routes.waits import Wait, wait_until
from app.service import Service
from app.watcher import changed_since, finished

router = APIRouter(prefix="/mappings", tags=["mappings"])


@router.post(
    "",
    status_code=202,
    summary="Map a query onto a reference",
    responses=problems(
        MalformedRequest,
        UnknownQuery,
        UnknownReference,
        QueryRejected,
        ReferenceNotReady,
        UnknownBatchColumn,
        UnknownLabelsColumn,
        UnknownCovariate,
        UnknownDesignColumn,
        UnknownControlValue,
        UnfitCellFilter,
        InputKindMismatch,
        UnknownOutput,
        TooFewGenes,
        SpeciesMismatch,
        IdempotencyKeyReused,
        IdempotencyKeyInProgress,
        UnsupportedMediaType,
    ),
)
def submit(
    service: Served,
    caller: Submitter,
    body: MappingIn,
    response: Response,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> MappingBody:
    """A ready query is checked against the reference at once. One that is still being checked
    is accepted, and its mapping fails with the query's problem if it is rejected."""
    request = _request(body)
    admit(service, caller=caller, request=request, idempotency_key=idempotency_key)
    mapping, replayed = service.database.write(
        partial(
            mappings.submit_mapping,
            bell=service.bell,
            owner=caller.owner,
            request=request,
            idempotency_key=idempotency_key,
            max_attempts=service.max_attempts,
            caller=caller,
        )
    )
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    response.headers["Location"] = f"/v1/mappings/{mapping.id}"
    return _read(service, caller.owner, mapping.id)[0]


@router.get("", summary="Your mappings, newest first")
def list_mine(
    service: Served,
    caller: Reader,
    *,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
    query: str | None = None,
    external_id: str | None = None,
    tag: Annotated[list[str] | None, Query(description="All of them must be present.")] = None,
) -> Listed[MappingBody]:
    with service.database.reading() as session:
        page = mappings.list_mappings(
            session,
            owner=caller.owner,
            limit=limit,
            cursor=cursor,
            query_id=query,
            external_id=external_id,
            tags=tag or (),
        )
        views = mappings.view_mappings(session, page.items)
        return Listed(items=[mapping_body(view) for view in views], next=page.next)


@router.get(
    "/{mapping_id}",
    summary="A mapping; `?wait=` polls long",
    response_model=MappingBody,
    responses={304: {"description": "As If-None-Match named it."}, **problems(UnknownMapping)},
)
async def mapping(
    request: Request,
    response: Response,
    service: Served,
    caller: Reader,
    mapping_id: str,
    wait: Wait = 0,
) -> MappingBody | Response:
    """With `?wait=SECONDS` the answer comes when the mapping is finished or the time is up. With
    `If-None-Match: ETAG` as well, it comes at the first change; without one, 304."""
    read = partial(_read, service, caller.owner, mapping_id)
    body, job_id, revision = await to_thread.run_sync(read)
    known = names_etag(request.headers.get("if-none-match"), _etag(revision, body))
    wanted = changed_since(revision) if known else finished
    if wait and not body.terminal:
        await wait_until(service, job_id, wanted, wait)
        body, _, revision = await to_thread.run_sync(read)
    etag = _etag(revision, body)
    if names_etag(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return body


@router.get(
    "/{mapping_id}/events",
    summary="The mapping's changes as server-sent events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "One event a change."},
        **problems(UnknownMapping),
    },
)
async def events(request: Request, service: Served, caller: Reader, mapping_id: str) -> Response:
    """Each event's data is the mapping as GET gives it; the stream ends when it is finished."""
    read = partial(_read, service, caller.owner, mapping_id)
    first = await to_thread.run_sync(read)
    if request.state.headers_only:  # nobody reads what the stream would wait for
        return Response(media_type="text/event-stream")
    return event_stream(service, first, read)


@router.post(
    "/{mapping_id}/cancel",
    summary="Cancel a mapping",
    responses=problems(UnknownMapping, AlreadyFinished),
)
def cancel(service: Served, caller: Submitter, mapping_id: str) -> MappingBody:
    """A waiting mapping is cancelled at once; a running one stops within a training step.
    Cancelling twice is no error."""
    service.database.write(
        partial(mappings.cancel_mapping, owner=caller.owner, mapping_id=mapping_id)
    )
    return _read(service, caller.owner, mapping_id)[0]


@router.delete(
    "/{mapping_id}",
    status_code=204,
    summary="Delete a mapping and its results",
    responses=problems(UnknownMapping),
)
def delete(service: Served, caller: Submitter, mapping_id: str) -> None:
    """In any state. A running mapping ends: its worker finds at the next heartbeat that it has
    lost the job, stops, and can record nothing."""
    prefix = service.database.write(
        partial(mappings.delete_mapping, owner=caller.owner, mapping_id=mapping_id)
    )
    service.storage.delete(prefix)


def _request(body: MappingIn) -> mappings.MappingRequest:
    fields = body.model_dump(exclude={"batch_key", "tags", "cell_filter", "outputs"})
    batch_key = [body.batch_key] if isinstance(body.batch_key, str) else body.batch_key
    given = body.cell_filter
    clauses = given if isinstance(given, list) else [given] if given else []
    return mappings.MappingRequest(
        **fields,
        batch_key=batch_key or None,
        cell_filter=[clause.as_dict() for clause in clauses] or None,
        outputs=[output.as_dict() for output in body.outputs] or None,
        tags=tuple(body.tags),
    )


def _etag(revision: int, body: MappingBody) -> str:
    """Of the job's revision, and of what has become of the reference meanwhile."""
    told = json.dumps(body.warnings).encode() if body.warnings else b""
    mark = f"-{hashlib.sha256(told).hexdigest()[:12]}" if told else ""
    return f'W/"{revision}{mark}"'


def _read(service: Service, owner: str, mapping_id: str) -> tuple[MappingBody, str, int]:
    with service.database.reading() as session:
        row = mappings.find_mapping(session, owner=owner, mapping_id=mapping_id)
        view = mappings.view_mapping(session, row)
        return mapping_body(view), view.job.id, view.job.revision
