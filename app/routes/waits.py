"""Waiting for a job without holding a database session."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from app.service import Service
from app.watcher import Wanted

MAX_WAIT_SECONDS = 60

Wait = Annotated[
    float,
    Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for a change; at most 60."),
]


async def wait_until(service: Service, job_id: str, wanted: Wanted, seconds: float) -> bool:
    return await service.watcher.wait(job_id, wanted, timeout=seconds)
