"""Redis for the tests: a server of our own on a free port of loopback, to stop and to restart."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import redis

from app.parent_death import die_with_parent

from .app.live import free_port
from .certificates import Issued


class RedisServer:
    """Keeps nothing on disk: what a restart forgets, a lost server would have forgotten too."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1"]
        self._command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            preexec_fn=partial(die_with_parent, signal.SIGKILL, parent=os.getpid()),
        )
        deadline = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def empty(self) -> None:
        with redis.Redis(port=self.port) as client:
            client.flushall()

    def _answers(self) -> bool:
        try:
            with self._connected() as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False

    def _connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=1)


class TlsRedis(RedisServer):
    """No port without TLS. With `asks_clients` they have to show a certificate of the authority."""

    def __init__(self, program: str, folder: Path, issued: Issued, *, asks_clients: bool) -> None:
        super().__init__(program, folder)
        self.url = f"rediss://127.0.0.1:{self.port}/0"
        self._command[1:3] = ["--port", "0", "--tls-port", str(self.port)]
        self._command += ["--tls-cert-file", str(issued.certificate)]
        self._command += ["--tls-key-file", str(issued.key)]
        self._command += ["--tls-ca-cert-file", str(issued.authority)]
        self._command += ["--tls-auth-clients", "yes" if asks_clients else "no"]
        self._trusting = ssl.create_default_context(cafile=str(issued.authority))
        self._trusting.load_cert_chain(issued.certificate, issued.key)
        self._trusting.check_hostname = False

    def _connected(self) -> socket.socket:
        return self._trusting.wrap_socket(super()._connected())


@contextmanager
def own_redis(program: str, folder: Path) -> Iterator[RedisServer]:
    with running(RedisServer(program, folder)) as server:
        yield server


@contextmanager
def running(server: RedisServer) -> Iterator[RedisServer]:
    server.start()
    try:
        yield server
    finally:
        server.kill()
