"""Uploading queries, and what is known of them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app import queries
from app.keys import Principal
from app.ownership import find_query
from app.problems import (
    Forbidden,
    MalformedRequest,
    QueryHasMappings,
    QueryInUse,
    UnknownQuery,
)
from app.references import list_versions
from app.routes.access import Reader, Served, Submitter
from app.routes.answers import problems
from app.routes.arrivals import FILE_BODY, UPLOAD_PROBLEMS, arrive, other_parts
from app.routes.bodies import GeneCoverage, Listed, QueryBody, QueryItem
from app.routes.shapes import gene_coverage, query_item
from app.routes.upload_options import Options, UploadQuery, safe_filename, with_fields
from app.routes.waits import Wait, wait_until
from app.service import Service
from app.tables import Query as QueryRow
from app.watcher import finished

router = APIRouter(prefix="/queries", tags=["queries"])

UPLOAD: dict[str, Any] = {
    "status_code": 201,
    "responses": problems(Forbidden, MalformedRequest, *UPLOAD_PROBLEMS),
    "openapi_extra": FILE_BODY,
}


@router.put("/", include_in_schema=False, **UPLOAD)
@router.post("/", include_in_schema=False, **UPLOAD)
@router.put("", summary="Upload a query (`curl -T FILE`)", operation_id="put_query", **UPLOAD)
@router.post(
    "", summary="Upload a query (`curl -F file=@FILE`)", operation_id="post_query", **UPLOAD
)
async def upload(
    request: Request, response: Response, service: Served, caller: Submitter, options: UploadQuery
) -> QueryBody:
    """An h5ad, an h5mu, an .h5 of 10x Genomics, or the three files of a matrix in Matrix Market
    form, packed as tar or zip. Several parts `file` of a form make one query with `obs["sample"]`;
    the three files of a Matrix Market form may come as three parts.

    201 means: every byte is on the disk, its digest checked, and its check is queued."""
    return await _upload(request, response, service, caller.owner, options, None)


@router.put(
    "/{filename}",
    summary="Upload a query (`curl -T FILE .../queries/` appends the name)",
    **UPLOAD,
)
async def upload_named(
    request: Request,
    response: Response,
    service: Served,
    caller: Submitter,
    filename: str,
    options: UploadQuery,
) -> QueryBody:
    return await _upload(request, response, service, caller.owner, options, filename)


@router.get("", summary="Your queries, newest first")
def list_mine(
    service: Served,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
    external_id: str | None = None,
    tag: Annotated[list[str] | None, Query(description="All of them must be present.")] = None,
) -> Listed[QueryItem]:
    with service.database.reading() as session:
        page = queries.list_queries(
            session,
            owner=caller.owner,
            limit=limit,
            cursor=cursor,
            external_id=external_id,
            tags=tag or (),
        )
        return Listed(items=[query_item(row) for row in page.items], next=page.next)


@router.get("/{query_id}", summary="A query", responses=problems(UnknownQuery))
async def query(service: Served, caller: Reader, query_id: str, wait: Wait = 0) -> QueryBody:
    """200 also for a rejected query: its `problem` says what to correct. `?wait=` waits until
    the check is done."""
    read = partial(_read, service, caller, query_id)
    body, job_id = await to_thread.run_sync(read)
    if wait and not body.terminal:
        await wait_until(service, job_id, finished, wait)
        body, _ = await to_thread.run_sync(read)
    return body


@router.delete(
    "/{query_id}",
    status_code=204,
    summary="Delete a query and its bytes",
    responses=problems(UnknownQuery, QueryHasMappings, QueryInUse),
)
def delete(service: Served, caller: Submitter, query_id: str, cascade: bool = False) -> None:
    """With `?cascade=true` its mappings go too, running ones included."""
    prefixes = service.database.write(
        partial(queries.delete_query, owner=caller.owner, query_id=query_id, cascade=cascade)
    )
    for prefix in prefixes:
        service.storage.delete(prefix)


async def _upload(
    request: Request,
    response: Response,
    service: Service,
    owner: str,
    options: UploadQuery,
    filename: str | None,
) -> QueryBody:
    row, _ = await keep_upload(request, service, owner, options, filename)
    body = QueryBody(**query_item(row).model_dump())
    response.headers["Location"] = body.links["self"]
    return body


async def keep_upload(
    request: Request,
    service: Service,
    owner: str,
    options: Options,
    filename: str | None,
    *,
    inspect_only: bool = False,
) -> tuple[QueryRow, Options]:
    """The options are those of the form as well."""
    async with arrive(request, service, options.sha256) as received:
        options = with_fields(options, received.fields)

        def keep() -> QueryRow:
            with service.database.writing() as session:
                return queries.create_query(
                    session,
                    service.bell,
                    owner=owner,
                    staged=received.staged,
                    others=other_parts(received),
                    storage=service.storage,
                    filename=safe_filename(received.filename or filename),
                    options=options.query_options(obs_policy=service.obs_policy),
                    external_id=options.external_id,
                    tags=options.tag,
                    max_attempts=service.max_attempts,
                    inspect_only=inspect_only,
                )

        return await service.uploads.keep(keep), options


def _read(service: Service, caller: Principal, query_id: str) -> tuple[QueryBody, str]:
    with service.database.reading() as session:
        row = find_query(session, owner=caller.owner, query_id=query_id)
        coverage = query_coverage(service, session, caller, row) if row.state == "ready" else None
        body = QueryBody(
            **query_item(row).model_dump(), inspection=row.inspection, gene_coverage=coverage
        )
        return body, row.job_id


def query_coverage(
    service: Service, session: Session, caller: Principal, row: QueryRow
) -> list[GeneCoverage]:
    seen = list_versions(session, caller=caller)
    ready = [version for version in seen if version.state == "ready"]
    return [gene_coverage(version, service.genes.coverage(row, version)) for version in ready]
