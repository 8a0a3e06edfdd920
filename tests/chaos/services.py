"""The service under chaos: its own commands as processes, started again when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg

from app.parent_death import die_with_parent
from app.storage import Storage, open_storage
from tests.app.live import answers, free_port
from tests.postgresql import Server
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
CELLGRAFT = (sys.executable, "-m", "app.cli")
QUICK = {"lease_seconds": "3", "heartbeat_seconds": "0.5", "disk_reserve_bytes": "0"}
SHARDS = {"shard_cells": "1024"}
PATIENT = {"max_attempts": "1000"}
"""No number of kills is a reason to give up, so every job has to succeed."""
STOP_SECONDS = 40.0
CACHE_BYTES = 1024**3


class Postgres(Server):
    """PostgreSQL whose first process may be killed: it recovers when it is started again."""

    def tend(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self.start()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        while self._process.poll() is None:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        # What the killed one left behind holds its memory for a moment, and a new one refuses.
        time.sleep(0.1)
        self.start()


class Redis(RedisServer):
    """Redis that forgets everything when it is killed."""

    def tend(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self.start()


@dataclass
class Command:
    """One process of the service."""

    line: Sequence[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def tend(self) -> None:
        if self.process is not None and self.process.poll() is None:
            return
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.line),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=partial(die_with_parent, signal.SIGTERM, parent=os.getpid()),
            )

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()


@dataclass
class Service:
    """Its processes; only the main thread starts any, as the kernel ends them with the thread."""

    folder: Path
    """Of the round."""
    database_url: str
    storage_url: str
    ports: list[int]
    commands: list[Command]
    servers: list[Postgres | Redis] = field(default_factory=list)

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def storage(self) -> Storage:
        """Its files, past the API."""
        cache = self.folder / "checker-cache"
        return open_storage(self.storage_url, cache=cache, cache_bytes=CACHE_BYTES)

    def tend(self) -> None:
        """Start whatever has died."""
        for each in (*self.servers, *self.commands):
            each.tend()

    def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether it holds in time; the service is looked after meanwhile."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.tend()
            time.sleep(0.1)
        return True

    def is_ready(self) -> bool:
        return all(answers(port, "/readyz") for port in self.ports)

    def stop(self) -> None:
        """SIGTERM, as an administrator stops it. The servers stay."""
        for command in self.commands:
            command.stop()
        deadline = time.monotonic() + STOP_SECONDS
        for command in self.commands:
            if command.process is not None:
                command.process.wait(max(deadline - time.monotonic(), 0.1))

    def close(self) -> None:
        """End what is left of it, however the round ended."""
        for command in self.commands:
            if command.process is not None and command.process.poll() is None:
                command.process.kill()
                command.process.wait()


def embedded(folder: Path, *, stub: bool) -> Service:
    """`cellgraft serve`, which starts and restarts the rest itself."""
    port = free_port()
    serve = _command(folder, "serve", "serve", folder / "data", stub, {"port": str(port)})
    database_url = f"sqlite:///{folder / 'data' / 'cellgraft.db'}"
    return Service(folder, database_url, _store(folder), [port], [serve])


def distributed(
    folder: Path,
    urls: Mapping[str, str],
    servers: Sequence[Postgres | Redis],
    *,
    workers: int,
    stub: bool,
) -> Service:
    """Two APIs and some workers, by settings that are URLs.

    They share one data folder; or, with a storage URL, nothing but the URLs, as on machines of
    their own.
    """
    ports = [free_port(), free_port()]
    roles = [("api", {"port": str(port)}) for port in ports] + [("worker", {})] * workers
    commands = []
    for number, (role, settings) in enumerate(roles):
        name = f"{role}-{number}"
        data_dir = folder / "data" / (name if "storage_url" in urls else "")
        commands.append(_command(folder, role, name, data_dir, stub, {**urls, **settings}))
    storage_url = urls.get("storage_url", _store(folder))
    return Service(folder, urls["database_url"], storage_url, ports, commands, list(servers))


def _store(folder: Path) -> str:
    """Where the files of a service lie that was told of no other place."""
    return (folder / "data" / "store").as_uri()


def _command(
    folder: Path, role: str, name: str, data_dir: Path, stub: bool, settings: Mapping[str, str]
) -> Command:
    data_dir.mkdir(parents=True, exist_ok=True)
    plain = {key: value for key, value in os.environ.items() if "CELLGRAFT" not in key}
    ours = {"data_dir": str(data_dir), **QUICK, **SHARDS, **PATIENT, **settings}
    named = {f"CELLGRAFT_{key.upper()}": value for key, value in ours.items()}
    stubbed = (str(Path(__file__).parent / "stubbed"),) if stub else ()
    plain.pop("PYTHONDONTWRITEBYTECODE", None)
    python = {
        "PYTHONPATH": os.pathsep.join((*stubbed, str(ROOT))),
        # Processes start all the time: compiling anew what they import takes 1 s of each start.
        "PYTHONPYCACHEPREFIX": str(folder.parent / "byte-code"),
    }
    environment = plain | {"OMP_WAIT_POLICY": "passive"} | named | python
    return Command([*CELLGRAFT, role], environment, folder / f"{name}.log")
