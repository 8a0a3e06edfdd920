"""Problems as HTTP answers, and how OpenAPI tells of them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.database_errors import EXPECTED, problem_of
from app.problems import (
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    Problem,
    UnsupportedMediaType,
)

PROBLEM_TYPE = "application/problem+json"


def answer_problems(app: FastAPI) -> None:
    """One handler for each way in which a request can fail; `app.doors` has the last resort."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    for kind in EXPECTED:
        app.add_exception_handler(kind, _database)


def problems(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route: each problem it may answer with, by status."""
    declared: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = declared.setdefault(
            kind.status,
            {
                "description": kind.title,
                "content": {
                    PROBLEM_TYPE: {
                        "schema": {"$ref": "#/components/schemas/Problem"},
                        "examples": {},
                    }
                },
            },
        )
        entry["content"][PROBLEM_TYPE]["examples"][kind.type] = {
            "summary": kind.title,
            "value": {
                "type": kind.type,
                "title": kind.title,
                "status": kind.status,
                "detail": "What exactly went wrong, in a sentence.",
                "fix": "What to do about it.",
                "fault": kind.fault,
                "errors": [],
            },
        }
    return declared


def malformed(errors: list[Any]) -> MalformedRequest:
    """What pydantic found, with pointers into the body (/name) or the query string (?name)."""
    told = [{"pointer": _pointer(error["loc"]), "detail": str(error["msg"])} for error in errors]
    listed = "; ".join(f"{error['pointer']}: {error['detail']}" for error in told)
    return MalformedRequest(
        f"The request is not as it should be: {listed}.",
        fix="Correct what `errors` points at; /v1/openapi.json describes every request.",
        errors=told,
    )


def _pointer(location: tuple[Any, ...]) -> str:
    place, *rest = location if location else ("body",)
    path = "/".join(str(part) for part in rest)
    marks = {"query": "?", "path": "path:", "header": "header:"}
    return f"{marks[place]}{path}" if place in marks else f"/{path}"


def _respond(problem: Problem) -> JSONResponse:
    return JSONResponse(
        problem.as_dict(),
        status_code=problem.status,
        media_type=PROBLEM_TYPE,
        headers=problem.headers,
    )


def _problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return _respond(error)


def _malformed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = list(error.errors())
    if any(found["loc"][:1] == ("body",) for found in errors) and _sent_something_else(request):
        return _respond(_not_json(request))
    return _respond(malformed(errors))


def _sent_something_else(request: Request) -> bool:
    """Whether there is a body that its sender does not call JSON, as with a bare `curl -d`."""
    sent = request.headers.get("content-length", "0") != "0"
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return (sent or "transfer-encoding" in request.headers) and not kind.endswith(
        ("/json", "+json")
    )


def _not_json(request: Request) -> UnsupportedMediaType:
    given = request.headers.get("content-type")
    said = "without a Content-Type" if given is None else f"with Content-Type {given!r}"
    return UnsupportedMediaType(
        f"The body came {said}; this address takes JSON.",
        fix="Send the header Content-Type: application/json, as `curl --json` does. "
        "(`curl -d` alone says that it sends a form.)",
    )


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = ", ".join(_methods_at(request))
        problem: Problem = MethodNotAllowed(
            f"{request.method} is not possible at {request.url.path}.",
            fix=f"Use one of: {allowed}.",
        )
        problem.headers["Allow"] = allowed
    elif error.status_code == 404:
        problem = NotFound(
            f"There is nothing at {request.url.path}.",
            fix="See /v1/openapi.json for the addresses of this service.",
        )
    else:
        problem = MalformedRequest(
            str(error.detail), fix="See /v1/openapi.json for what this address takes."
        )
    return _respond(problem)


def _methods_at(request: Request) -> list[str]:
    """Of all routes of this address; the framework's own list is that of the first one."""
    place = {"type": "http", "path": request.scope["path"], "root_path": "", "headers": []}

    def takes(method: str) -> bool:
        scope = {**place, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    methods = [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if takes(method)]
    return ["GET", "HEAD", *methods[1:]] if "GET" in methods else methods


def _database(_request: Request, error: Exception) -> JSONResponse:
    return _respond(problem_of(error))
