"""The report of a file, and nothing else: neither its bytes nor its counts are kept."""

from __future__ import annotations

from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from app import inspections
from app.keys import Principal
from app.problems import Forbidden, MalformedRequest, UnknownInspection
from app.routes.access import Reader, Served, Submitter
from app.routes.answers import problems
from app.routes.arrivals import FILE_BODY, UPLOAD_PROBLEMS
from app.routes.inspection_bodies import InspectionBody
from app.routes.queries import keep_upload, query_coverage
from app.routes.upload_options import InspectQuery
from app.routes.waits import Wait, wait_until
from app.service import Service
from app.tables import Query as QueryRow
from app.watcher import finished

router = APIRouter(tags=["queries"])

INSPECT: dict[str, Any] = {
    "responses": {
        202: {"description": "Still being checked: `Location` says where.", "model": InspectionBody}
    }
    | problems(Forbidden, MalformedRequest, *UPLOAD_PROBLEMS),
    "openapi_extra": FILE_BODY,
}


@router.put(
    "/queries:inspect",
    summary="The report of a file that is not kept (`curl -T FILE`)",
    operation_id="put_inspection",
    **INSPECT,
)
@router.post(
    "/queries:inspect",
    summary="The report of a file that is not kept (`curl -F file=@FILE`)",
    operation_id="post_inspection",
    **INSPECT,
)
async def inspect(
    request: Request,
    response: Response,
    service: Served,
    caller: Submitter,
    options: InspectQuery,
) -> InspectionBody:
    """200: the report, of a file that would be refused too (`acceptable` says which); nothing of
    the file is left. 202: the check takes longer, its report is kept for an hour after its end."""
    row, options = await keep_upload(
        request, service, caller.owner, options, None, inspect_only=True
    )
    if options.wait:
        await wait_until(service, row.job_id, finished, options.wait)
    read = partial(_read, service, caller, row.id)
    body = await to_thread.run_sync(read)
    if body.terminal:
        await to_thread.run_sync(partial(_forget, service, caller, row.id))
        return body.model_copy(update={"links": {}})
    response.status_code = 202
    response.headers["Location"] = body.links["self"]
    return body


@router.get(
    "/inspections/{inspection_id}",
    summary="A report that took longer; `?wait=` polls long",
    responses=problems(UnknownInspection),
)
async def inspection(
    service: Served, caller: Reader, inspection_id: str, wait: Wait = 0
) -> InspectionBody:
    read = partial(_read, service, caller, inspection_id)
    body = await to_thread.run_sync(read)
    if wait and not body.terminal:
        job_id = await to_thread.run_sync(partial(_job_of, service, caller, inspection_id))
        await wait_until(service, job_id, finished, wait)
        body = await to_thread.run_sync(read)
    return body


@router.delete(
    "/inspections/{inspection_id}",
    status_code=204,
    summary="Forget a report before its hour is over, or end its check",
    responses=problems(UnknownInspection),
)
def delete(service: Served, caller: Submitter, inspection_id: str) -> None:
    _forget(service, caller, inspection_id)


def _read(service: Service, caller: Principal, inspection_id: str) -> InspectionBody:
    with service.database.reading() as session:
        row = inspections.find_inspection(session, owner=caller.owner, inspection_id=inspection_id)
        ready = row.state == "ready"
        return InspectionBody(
            id=row.id,
            terminal=_ended(row),
            acceptable=ready if _ended(row) else None,
            inspection=row.inspection,
            problem=row.problem,
            gene_coverage=query_coverage(service, session, caller, row) if ready else None,
            links={"self": f"/v1/inspections/{row.id}"},
        )


def _ended(row: QueryRow) -> bool:
    return row.state != "checking"


def _job_of(service: Service, caller: Principal, inspection_id: str) -> str:
    with service.database.reading() as session:
        return inspections.find_inspection(
            session, owner=caller.owner, inspection_id=inspection_id
        ).job_id


def _forget(service: Service, caller: Principal, inspection_id: str) -> None:
    prefix = service.database.write(
        partial(inspections.forget_inspection, owner=caller.owner, inspection_id=inspection_id)
    )
    service.storage.delete(prefix)
