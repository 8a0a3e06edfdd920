"""The service under chaos: its own commands as processes, started again when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg

from app.parent_death import die_with_parent
from tests.app.live import answers, free_port
from tests.postgresql import Server
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
CELLGRAFT = (sys.executable, "-m", "app.cli")
QUICK = {"lease_seconds": "3", "heartbeat_seconds": "0.5", "disk_reserve_bytes": "0"}
PATIENT = {"max_attempts": "1000"}
"""No number of kills is a reason to give up, so every job has to succeed."""
STOP_SECONDS = 40.0


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

    data_dir: Path
    database_url: str
    ports: list[int]
    commands: list[Command]
    servers: list[Postgres | Redis] = field(default_factory=list)

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]

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


def embedded(data_dir: Path, *, stub: bool) -> Service:
    """`cellgraft serve`, which starts and restarts the rest itself."""
    port = free_port()
    environment = _environment(data_dir, stub=stub, port=str(port))
    serve = Command([*CELLGRAFT, "serve"], environment, data_dir.parent / "serve.log")
    return Service(data_dir, f"sqlite:///{data_dir / 'cellgraft.db'}", [port], [serve])


def distributed(
    data_dir: Path, database_url: str, postgres: Postgres, redis: Redis, *, workers: int, stub: bool
) -> Service:
    """Two APIs and some workers on one PostgreSQL, one Redis and one folder."""
    urls = {"database_url": database_url, "broker_url": redis.url}
    ports = [free_port(), free_port()]
    commands = []
    for number, port in enumerate(ports):
        environment = _environment(data_dir, stub=stub, port=str(port), **urls)
        log = data_dir.parent / f"api-{number}.log"
        commands.append(Command([*CELLGRAFT, "api"], environment, log))
    for number in range(workers):
        environment = _environment(data_dir, stub=stub, **urls)
        log = data_dir.parent / f"worker-{number}.log"
        commands.append(Command([*CELLGRAFT, "worker"], environment, log))
    return Service(data_dir, database_url, ports, commands, [postgres, redis])


def _environment(data_dir: Path, *, stub: bool, **settings: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if "CELLGRAFT" not in name}
    ours = {"data_dir": str(data_dir), **QUICK, **PATIENT, **settings}
    named = {f"CELLGRAFT_{name.upper()}": value for name, value in ours.items()}
    stubbed = (str(Path(__file__).parent / "stubbed"),) if stub else ()
    path = {"PYTHONPATH": os.pathsep.join((*stubbed, str(ROOT)))}
    return plain | {"OMP_WAIT_POLICY": "passive"} | named | path
