"""A TCP proxy before a store that does to connections what networks and stores do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

BLOCK = 64 * 1024
Fault = Literal["none", "away", "error", "full", "cut", "slow"]
ANSWERS = {
    "error": b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "full": b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
}


@dataclass
class FaultyProxy:
    """`away`: connections are closed. `error`, `full`: every request is answered 503, 507.

    `cut`: the connection ends after `cut_bytes` of answers. `slow`: every block of an answer
    comes `delay_seconds` late. The first `times` requests only, if that is given.
    """

    upstream: tuple[str, int]
    fault: Fault = "none"
    times: int | None = None
    cut_bytes: int = 1000
    delay_seconds: float = 0.2
    faults_done: int = 0
    port: int = 0
    _listener: socket.socket = field(default_factory=socket.socket)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self.upstream) as store:
            threading.Thread(target=self._answers, args=(store, client), daemon=True).start()
            while data := client.recv(BLOCK):
                fault = self._fault()
                if fault in ANSWERS:
                    self._drain(client)
                    client.sendall(ANSWERS[fault])
                    return
                if fault == "away":
                    return
                store.sendall(data)

    def _answers(self, store: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            sent = 0
            while data := store.recv(BLOCK):
                if self.fault == "slow":
                    time.sleep(self.delay_seconds)
                if self.fault == "cut" and self._count():
                    client.sendall(data[: max(0, self.cut_bytes - sent)])
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)
                sent += len(data)
            client.shutdown(socket.SHUT_RDWR)

    def _fault(self) -> Fault:
        return self.fault if self.fault in {*ANSWERS, "away"} and self._count() else "none"

    def _count(self) -> bool:
        if self.times is not None and self.faults_done >= self.times:
            return False
        self.faults_done += 1
        return True

    def _drain(self, client: socket.socket) -> None:
        """Read what is still coming, or the answer is lost with a reset."""
        client.settimeout(0.05)
        with suppress(TimeoutError):
            while client.recv(BLOCK):
                continue


@contextmanager
def faulty_proxy(endpoint: str) -> Iterator[FaultyProxy]:
    host, _, port = endpoint.removeprefix("http://").partition(":")
    proxy = FaultyProxy((host, int(port)))
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
