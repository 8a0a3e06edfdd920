"""Liveness and readiness, outside /v1 and without a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.problems import Problem
from app.routes.access import Served
from app.service import Service
from app.staging import check_space
from app.workers import ALIVE_SECONDS, sandboxes_seen, workers_seen

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/readyz", summary="Can the service take work?")
def readyz(service: Served) -> JSONResponse:
    """200 when uploads and jobs can be taken, else 503. Workers are counted but not demanded:
    what is accepted without one waits for it. A broker only shortens that wait. What a worker's
    sandbox lacks is a warning, and no reason to take no uploads: `CELLGRAFT_SANDBOX` decides."""
    checks = {
        "database": _check(lambda: _database(service)),
        "storage": _check(service.storage.check_writable),
        "disk": _check(lambda: check_space(service.uploads.staging, service.uploads.reserve_bytes)),
    }
    ready = all(check == "ok" for check in checks.values())
    body: dict[str, Any] = {"status": "ready" if ready else "not ready", "checks": checks}
    if checks["database"] == "ok":
        with service.database.reading() as session:
            seen = workers_seen(session, within_seconds=ALIVE_SECONDS)
            sandboxes = sandboxes_seen(session, within_seconds=ALIVE_SECONDS)
        body["workers"] = {"seen": seen, "within_seconds": ALIVE_SECONDS}
        body["sandboxes"] = sandboxes
        body["warnings"] = [lack["what"] for each in sandboxes for lack in each["missing"]]
    if (answers := service.bell.answers()) is not None:
        body["broker"] = "ok" if answers else "does not answer; workers find jobs by polling"
    return JSONResponse(body, status_code=200 if ready else 503)


def _check(test: Callable[[], None]) -> str:
    try:
        test()
    except Problem as problem:
        return problem.title
    except (OSError, SQLAlchemyError) as error:
        return f"failed: {type(error).__name__}"
    return "ok"


def _database(service: Service) -> None:
    with service.database.reading() as session:
        session.execute(text("SELECT 1"))
