"""Server-sent events: a job's changes, as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from anyio import to_thread
from fastapi.responses import StreamingResponse

from app.problems import Problem
from app.routes.bodies import MappingBody
from app.routes.waits import wait_until
from app.service import Service
from app.watcher import changed_since

QUIET_SECONDS = 15
"""A comment so often keeps proxies from closing a quiet stream."""

Reading = tuple[MappingBody, str, int]


def event_stream(
    service: Service, first: Reading, read: Callable[[], Reading]
) -> StreamingResponse:
    return StreamingResponse(
        _events(service, first, read),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(
    service: Service, reading: Reading, read: Callable[[], Reading]
) -> AsyncIterator[str]:
    while True:
        body, job_id, revision = reading
        yield f"id: {revision}\nevent: mapping\ndata: {body.model_dump_json()}\n\n"
        if body.terminal:
            return
        while not await wait_until(service, job_id, changed_since(revision), QUIET_SECONDS):
            yield ": still here\n\n"
        try:
            reading = await to_thread.run_sync(read)
        except Problem:
            yield "event: deleted\ndata: {}\n\n"
            return
