"""`cellgraft serve` as a person runs it, and the calls of its user, all made with curl."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFERENCE = "tiny"
CELLGRAFT = [sys.executable, "-m", "app.cli"]
QUICK = {"lease_seconds": "2", "heartbeat_seconds": "0.5", "disk_reserve_bytes": "0"}
READY_SECONDS, WAIT_SECONDS = 60, 120


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if "CELLGRAFT" not in name}
    ours = {"data_dir": str(data_dir), **QUICK, **settings}
    named = {f"CELLGRAFT_{name.upper()}": value for name, value in ours.items()}
    return plain | {"OMP_WAIT_POLICY": "passive"} | named


def cellgraft(data_dir: Path, *arguments: str, code: int = 0) -> str:
    """One command to its end; what it printed."""
    done = subprocess.run(
        [*CELLGRAFT, *arguments],
        env=environment(data_dir),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@dataclass
class Answer:
    """What came back from one call."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Serving:
    """A running service."""

    port: int
    data_dir: Path
    process: subprocess.Popen[bytes]
    key: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def curl(self, path: str, *arguments: str, stdin: bytes | None = None) -> Answer:
        key = ["-H", f"Authorization: Bearer {self.key}"] if self.key else []
        done = subprocess.run(
            ["curl", "-sS", "-i", "-g", "-m", "60", *key, *arguments, f"{self.url}{path}"],
            input=stdin,
            capture_output=True,
            check=True,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 100"):
            head, _, body = body.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        fields = (line.partition(": ") for line in lines)
        headers = {name.lower(): value for name, _, value in fields}
        return Answer(int(first.split()[1]), headers, body)

    def get(self, path: str) -> Any:
        answer = self.curl(path)
        assert answer.status == 200, answer.body
        return answer.json

    def upload(self, file: Path, options: str = "") -> Any:
        answer = self.curl(f"/v1/queries/{options}", "-T", str(file))
        assert answer.status == 201, answer.body
        return answer.json

    def checked(self, file: Path, options: str = "") -> Any:
        return self.get(f"/v1/queries/{self.upload(file, options)['id']}?wait=30")

    def ask(self, query: str, *headers: str, **request: Any) -> Answer:
        given = json.dumps({"query": query, "reference": REFERENCE, **request})
        json_type = ["-H", "Content-Type: application/json"]
        named = [part for header in headers for part in ("-H", header)]
        return self.curl("/v1/mappings", *json_type, *named, "--data-binary", given)

    def map(self, query: str, **request: Any) -> Any:
        """The finished mapping."""
        answer = self.ask(query, **request)
        assert answer.status == 202, answer.body
        return self.finished(answer.json["id"])

    def finished(self, mapping: str) -> Any:
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := self.get(f"/v1/mappings/{mapping}?wait=20"))["terminal"]:
            assert time.monotonic() < deadline, found
        return found

    def result(self, mapping: str, name: str) -> bytes:
        answer = self.curl(f"/v1/mappings/{mapping}/results/{name}")
        assert answer.status == 200, answer.body
        return answer.body

    def answers(self) -> bool:
        command = ["curl", "-sf", "-m", "2", "-o", os.devnull, f"{self.url}/readyz"]
        return subprocess.run(command, check=False).returncode == 0

    def until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self.answers():
            assert self.process.poll() is None, (self.data_dir / "log").read_text()
            assert time.monotonic() < deadline, (self.data_dir / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(data_dir: Path, **settings: str) -> Iterator[Serving]:
    port = free_port()
    with (data_dir / "log").open("ab") as log:
        process = subprocess.Popen(
            [*CELLGRAFT, "serve", "--port", str(port)],
            env=environment(data_dir, **settings),
            stdout=log,
            stderr=log,
        )
    started = Serving(port, data_dir, process)
    try:
        started.until_ready()
        yield started
    finally:
        if process.poll() is None:
            started.stop()
