"""The HTTP service, put together: `create_app`, and `serve_api` for the command line."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.doors import Doors
from app.inspections import forget_for_ever
from app.keys import has_active_keys
from app.logs import set_up_logs
from app.presence import serving
from app.routes import (
    health,
    inspections,
    keys,
    map,
    mappings,
    queries,
    rankings,
    reference_history,
    reference_life,
    references,
    results,
    service_info,
)
from app.routes.answers import answer_problems
from app.routes.bodies import ProblemBody
from app.service import Service, check_binding, open_service
from app.settings import Settings
from app.unread_bodies import UnreadBodies


def create_app(service: Service) -> FastAPI:
    """An application over an opened service whose tables are migrated."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweepers = [
            asyncio.create_task(service.uploads.sweep_for_ever()),
            asyncio.create_task(forget_for_ever(service.database, service.storage)),
        ]
        yield
        for sweeper in sweepers:
            sweeper.cancel()
        await service.watcher.stop()
        service.bell.close()
        service.database.close()

    app = FastAPI(
        title="Cellgraft",
        version=service.version,
        description="Reference mapping for single cells: a query goes in, its latent comes out.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # FastAPI's page loads scripts from a CDN; this service works offline
        redoc_url=None,
        redirect_slashes=False,  # a redirect would make a client send its file twice
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(health.router)
    for module in (
        service_info,
        references,
        reference_life,
        reference_history,
        queries,
        inspections,
        rankings,
        results,
        mappings,
        map,
        keys,
    ):
        app.include_router(module.router, prefix="/v1")
    answer_problems(app)
    app.add_middleware(Doors, service=service)
    app.add_middleware(UnreadBodies)  # around everything that may refuse
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def serve_api(settings: Settings) -> None:
    """Migrate, check that it is safe to bind, and serve until told to stop."""
    set_up_logs(settings.log_level)
    allow_open_files()
    service = open_service(settings)
    service.database.migrate()
    with service.database.reading() as session:
        check_binding(settings, has_keys=has_active_keys(session))
    with serving(settings.data_dir):
        uvicorn.run(
            create_app(service),
            host=settings.host,
            port=settings.port,
            http="h11",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )


def allow_open_files() -> None:
    """Open as many files as may be: a form holds up to 96, and a shell allows 1,024 at first."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # of a system that says more than it grants
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description with our problems in place of its own validation errors."""
    if app.openapi_schema is None:
        described = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        components = described.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = ProblemBody.model_json_schema()
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        described["security"] = [{"bearer": []}, {"header": []}]
        for operations in described["paths"].values():
            for operation in operations.values():
                _drop_foreign_422(operation)
        app.openapi_schema = described
    return app.openapi_schema


def _drop_foreign_422(operation: dict[str, Any]) -> None:
    answer = operation.get("responses", {}).get("422", {})
    answer.get("content", {}).pop("application/json", None)
    if answer and not answer.get("content"):
        answer["content"] = {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        }
