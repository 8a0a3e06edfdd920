"""JSON messages, one a line, over a stream socket between the parent and the compute child."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping
from typing import Any

BLOCK = 65536


class Closed(Exception):
    """The other end is gone."""


class Lines:
    """One end of the conversation."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._pending = bytearray()

    def send(self, message: Mapping[str, Any]) -> None:
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise Closed from error

    def receive(self, timeout: float | None) -> dict[str, Any] | None:
        """The next message, or None when none came in time. Raises Closed."""
        while (end := self._pending.find(b"\n")) < 0:
            if not select.select([self.connection], [], [], timeout)[0]:
                return None
            try:
                data = self.connection.recv(BLOCK)
            except OSError as error:
                raise Closed from error
            if not data:
                raise Closed
            self._pending += data
        line = bytes(self._pending[:end])
        del self._pending[: end + 1]
        return dict(json.loads(line))

    def close(self) -> None:
        self.connection.close()
