"""A real server in a process of its own, and curl."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(data_dir: Path, port: int, **settings: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if "CELLGRAFT" not in name}
    ours = {"data_dir": str(data_dir), "port": str(port), "disk_reserve_bytes": "0", **settings}
    return plain | {f"CELLGRAFT_{name.upper()}": value for name, value in ours.items()}


def answers(port: int, path: str = "/healthz") -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@dataclass
class Live:
    port: int
    data_dir: Path
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def curl(self, *arguments: str, stdin: bytes | None = None) -> tuple[int, Any, int]:
        """The status, the JSON, and how many bytes of body were sent."""
        written = "\n%{http_code} %{size_upload}"
        done = subprocess.run(
            ["curl", "-sS", "-w", written, *arguments],
            input=stdin,
            capture_output=True,
            check=True,
            timeout=60,
        )
        body, _, numbers = done.stdout.decode().rpartition("\n")
        status, sent = numbers.split()
        return int(status), json.loads(body) if body else None, int(sent)


@contextmanager
def serving(data_dir: Path, **settings: str) -> Iterator[Live]:
    port = free_port()
    log = data_dir / "log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "api"],
            env=environment(data_dir, port, **settings),
            stdout=output,
            stderr=output,
        )
    try:
        until(lambda: answers(port))
        yield Live(port, data_dir, process, log)
    finally:
        process.terminate()
        process.wait(30)
