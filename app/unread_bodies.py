"""Requests answered before their body has arrived: the rest is read and dropped for a moment."""

from __future__ import annotations

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_BYTES = 16 * 1024 * 1024
"""More than the buffers of a connection and of a proxy hold, far less than a file."""
LINGER_SECONDS = 3.0
"""Less than uvicorn allows for a graceful stop."""


class UnreadBodies:
    """Sends the answer at once and keeps the connection open until the client has seen it.

    A connection that is closed while bytes of the request are unread is reset. nginx, still
    sending, tells its client 502 then, and a client that reads no answer before it has sent
    everything sees none. So what comes is read and thrown away, within both limits; a client
    that reads the answer stops sending and closes by itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        await self.app(scope, exchange.receive, exchange.send)
        await exchange.linger()


class _Exchange:
    """One request and its answer, the last message of which is held back if it comes early."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._has_arrived = False
        self._is_early = False
        self._is_answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        # A disconnect has no `more_body` either: nothing comes any more.
        self._has_arrived = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_early = not self._has_arrived
            if self._is_early:
                # Whatever follows on this connection is the rest of a file and no request.
                MutableHeaders(scope=message)["Connection"] = "close"
        elif self._is_early and not message.get("more_body", False):
            # The client knows the length of the answer: for it this is the end.
            message = {**message, "more_body": True}
            self._is_answered = True
        await self._send(message)

    async def linger(self) -> None:
        """After an early answer. Asks nobody for a body: `100 Continue` would come before it."""
        if not self._is_answered:
            return
        left = LINGER_BYTES
        with anyio.move_on_after(LINGER_SECONDS):
            while left > 0 and not self._has_arrived:
                left -= len((await self.receive()).get("body", b""))
        await self._send({"type": "http.response.body", "body": b""})


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
