"""The outermost layer: request ids, who is asking, size of small bodies, the last resort, logs."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from contextlib import suppress
from typing import Any

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.database_errors import AWAY, EXPECTED, problem_of
from app.keys import (
    LOCAL_ADMINISTRATOR,
    Principal,
    authenticate,
    has_keys,
    note_use,
    unauthenticated,
    use_is_noted,
)
from app.problems import (
    BodyTooLarge,
    ForeignOrigin,
    InternalFault,
    MalformedRequest,
    NotFound,
    Problem,
)
from app.service import Service, host_of, is_loopback

log = logging.getLogger("cellgraft.api")

PREFIX = "/v1/"
OPEN_PATHS = frozenset({"/v1/openapi.json"})
UPLOADS = re.compile(r"^/v1/(queries|map)(/[^/]*)?$|^/v1/queries:inspect$")
OWN_ID = re.compile(r"[0-9a-f]{32}(:[a-z]+)?")
SMALL_BODY_BYTES = 1024 * 1024


class Doors:
    """Authentication comes before everything else under /v1, unknown addresses included."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, _request_id(Headers(scope=scope)))
        started = time.monotonic()
        try:
            await self._answer(scope, receive, answer)
        except Problem as problem:
            await answer.send_problem(problem)
        except ClientDisconnect:
            answer.note = "the client went away"
        except EXPECTED as error:
            await answer.send_problem(problem_of(error))
        except Exception:
            log.exception("a request failed", extra={"facts": {"request_id": answer.request_id}})
            await answer.send_problem(_fault(answer.request_id))
        finally:
            _write_log(scope, answer, time.monotonic() - started)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        path = scope["path"]
        state = scope.setdefault("state", {})
        state["request_id"] = answer.request_id
        state["headers_only"] = False
        if path.startswith(PREFIX) and path not in OPEN_PATHS:
            principal = await to_thread.run_sync(self._who_asks, Headers(scope=scope))
            state["principal"] = principal
            answer.owner = principal.owner
        _refuse_nul(scope)
        if scope["method"] == "HEAD":
            # Every address that answers GET answers HEAD; `state` tells who would read a file.
            scope = {**scope, "method": "GET"}
            answer.headers_only = state["headers_only"] = True
        if scope["method"] in {"POST", "PUT", "PATCH", "DELETE"} and not _is_upload(scope):
            receive = await _read_small(scope, receive)
        await self.app(scope, receive, answer)

    def _who_asks(self, headers: Headers) -> Principal:
        token = _token(headers)
        with self.service.database.reading() as session:
            if token is None:
                if has_keys(session):
                    raise unauthenticated("This service needs an API key.")
                return self._local(headers)
            principal = authenticate(session, token)
            assert principal.key_id is not None
            noted = use_is_noted(session, principal.key_id)
        if not noted:
            # A note that nobody waits for: a database too busy for it is no reason to refuse.
            with suppress(*AWAY), self.service.database.writing() as session:
                note_use(session, principal.key_id)
        return principal

    def _local(self, headers: Headers) -> Principal:
        """Without keys: this machine's own requests, but not those of a web page it shows."""
        origin = headers.get("origin")
        if origin is not None and not is_loopback(host_of(origin)):
            raise ForeignOrigin(
                f"The page {origin} may not use this service.",
                fix="Make an API key (`cellgraft keys create`) and send it with the request.",
            )
        if self.service.open_to_all:
            return LOCAL_ADMINISTRATOR
        if self.service.open_to_this_machine and is_loopback(host_of(headers.get("host", ""))):
            return LOCAL_ADMINISTRATOR
        raise unauthenticated(
            "Without API keys, only requests to a loopback address are served.",
            fix="Use http://127.0.0.1 or http://localhost, or make a key: `cellgraft keys create`.",
        )


class _Answer:
    """`send`, with the request id put in, and what the log line needs."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status: int | None = None
        self.owner: str | None = None
        self.note: str | None = None
        self.headers_only = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Request-Id"] = self.request_id
            await self._send(message)
            if self.headers_only:
                await self._send({"type": "http.response.body", "body": b""})
        elif not self.headers_only:
            await self._send(message)

    async def send_problem(self, problem: Problem) -> None:
        if self.status is not None:
            return  # too late to say anything else; the connection ends short of its length
        body = json.dumps(problem.as_dict()).encode()
        headers = {
            "content-type": "application/problem+json",
            "content-length": str(len(body)),
            **problem.headers,
        }
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        start = {"type": "http.response.start", "status": problem.status, "headers": raw}
        await self(start)
        await self({"type": "http.response.body", "body": body})


async def _read_small(scope: Scope, receive: Receive) -> Receive:
    """Read a JSON body here, up to a limit, and hand it on as one message."""
    declared = Headers(scope=scope).get("content-length", "0")
    if declared.isdecimal() and int(declared) > SMALL_BODY_BYTES:
        raise _not_small()
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > SMALL_BODY_BYTES:
            raise _not_small()
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _refuse_nul(scope: Scope) -> None:
    """No database takes the character NUL in a text, so nothing has such an id, name or tag."""
    if "\0" in scope["path"]:
        raise NotFound(
            "There is nothing at an address with a NUL character.",
            fix="See /v1/openapi.json for the addresses of this service.",
        )
    if b"%00" in scope["query_string"]:
        raise MalformedRequest(
            "The query string holds a NUL character (%00).",
            fix="Leave it out.",
            errors=[{"pointer": "?", "detail": "holds a NUL character"}],
        )


def _not_small() -> BodyTooLarge:
    return BodyTooLarge(
        f"This address takes at most {SMALL_BODY_BYTES} bytes.",
        fix="Send files to /v1/queries or /v1/map.",
        limit_bytes=SMALL_BODY_BYTES,
    )


def _is_upload(scope: Scope) -> bool:
    return scope["method"] in {"POST", "PUT"} and UPLOADS.match(scope["path"]) is not None


def _token(headers: Headers) -> str | None:
    given = headers.get("authorization")
    if given is None:
        return headers.get("x-api-key")
    scheme, _, token = given.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", given) else uuid.uuid4().hex


def _fault(request_id: str) -> InternalFault:
    return InternalFault(
        "Something went wrong inside the service. It has been written to its log.",
        fix=f"Try again; if it happens again, tell the administrator the request id {request_id}.",
        request_id=request_id,
    )


def _shown(scope: Scope, status: int | None) -> str:
    """The path without the name of a file, which `curl -T` appends, also to a wrong address."""
    path: str = scope["path"]
    parts = path.split("/")
    if len(parts) < 4 or not parts[3]:
        return path
    if parts[2] == "map" or (parts[2] == "queries" and not OWN_ID.fullmatch(parts[3])):
        return "/".join([*parts[:3], "{filename}"])
    is_nowhere = "endpoint" not in scope and (status is None or status >= 400)
    return "/".join([*parts[:3], "..."]) if is_nowhere else path


def _write_log(scope: Scope, answer: _Answer, seconds: float) -> None:
    path = _shown(scope, answer.status)
    facts: dict[str, Any] = {
        "request_id": answer.request_id,
        "method": scope["method"],
        "path": path,
        "status": answer.status,
        "milliseconds": round(seconds * 1000, 1),
        "owner": answer.owner,
    }
    if answer.note:
        facts["note"] = answer.note
    log.info("%s %s %s", scope["method"], path, answer.status, extra={"facts": facts})
