"""The commands of docker-compose.yml as plain processes, with its variables: only the addresses
are others. PostgreSQL, Redis and a store are real servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.supervisor import REFUSED_EXIT
from tests.app.live import free_port, until
from tests.app.object_store import BUCKET, EMULATOR_KEYS, emulator
from tests.conftest import missing
from tests.e2e.cells import cells, write

from .deployment import PASSWORDS, health_command, seconds, services

PROGRAMS = {
    "cellgraft": [sys.executable, "-m", "app.cli"],
    "python": [sys.executable],
}


@dataclass
class Machine:
    """One machine that runs the services of the compose file beside each other."""

    folder: Path
    postgresql_url: str
    store: str
    redis_port: int = field(default_factory=free_port)
    processes: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    def environment(self, service: str, name: str, port: int) -> dict[str, str]:
        """The service's own variables, and no others; other addresses."""
        given: dict[str, str] = dict(services()[service]["environment"])
        ours = {
            "CELLGRAFT_DATA_DIR": str(self.folder / name),
            "CELLGRAFT_HOST": "127.0.0.1",
            "CELLGRAFT_PORT": str(port),
            "CELLGRAFT_DATABASE_URL": self.postgresql_url,
            "CELLGRAFT_BROKER_URL": given["CELLGRAFT_BROKER_URL"].replace(
                "redis:6379", f"127.0.0.1:{self.redis_port}"
            ),
            "CELLGRAFT_STORAGE_URL": given["CELLGRAFT_STORAGE_URL"]
            .replace("s3://cellgraft/", f"s3://{BUCKET}/")
            .replace("http://store:7070", self.store),
            **EMULATOR_KEYS,
        }
        assert set(ours) <= set(given)
        return {"PATH": os.environ["PATH"], "OMP_WAIT_POLICY": "passive", **given, **ours}

    def start(self, service: str, name: str, port: int = 8000) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                _program(services()[service]["command"]),
                env=self.environment(service, name, port),
                stderr=log,
            )
        self.processes.append((service, process))
        return process

    def run(self, service: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A command in a container of its own, as `docker compose run --rm` starts it."""
        return subprocess.run(
            _program(list(words) or services()[service]["command"]),
            env=self.environment(service, "once", 8000),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def is_healthy(self, service: str, name: str, port: int = 8000) -> bool:
        """What the health check of the service's image says."""
        command = health_command(services()[service]["build"]["target"])
        environment = self.environment(service, name, port)
        checked = subprocess.run(
            _program(command), env=environment, capture_output=True, check=False
        )
        return checked.returncode == 0


def _program(command: list[str]) -> list[str]:
    return [*PROGRAMS[command[0]], *command[1:]]


@pytest.fixture
def machine(tmp_path: Path, postgresql_url: str) -> Iterator[Machine]:
    if shutil.which("redis-server") is None:
        missing("Redis: install it (Debian and Ubuntu: apt install redis-server)")
    with emulator(tmp_path / "store.log") as endpoint:
        made = Machine(tmp_path, postgresql_url, endpoint)
        yield made
        for _, process in made.processes:
            process.kill()
            process.wait()


def start_redis(machine: Machine) -> None:
    """The command and the health check of the file, on another port."""
    service = services()["redis"]
    shell, flag, line = service["command"]
    folder = machine.folder / "redis"
    folder.mkdir()
    environment = {"PATH": os.environ["PATH"], **service["environment"]}
    process = subprocess.Popen(
        [shell, flag, f"{line.replace('$$', '$')} --port {machine.redis_port} --bind 127.0.0.1"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    machine.processes.append(("redis", process))
    kind, check = service["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    check = check.replace("$$", "$").replace("redis-cli", f"redis-cli -p {machine.redis_port}")

    def is_healthy() -> bool:
        asked = subprocess.run(["sh", "-c", check], env=environment, check=False)
        return asked.returncode == 0

    until(is_healthy, 20)
    del environment["REDIS_PASSWORD"]
    assert not is_healthy()


def curl(key: str, *arguments: str) -> Any:
    command = ["curl", "-sS", "-H", f"Authorization: Bearer {key}", *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90)
    return json.loads(told.stdout)


def test_the_passwords_of_the_file_are_not_the_emulators() -> None:
    assert not set(PASSWORDS.values()) & set(EMULATOR_KEYS.values())


def test_migrate_may_run_twice(machine: Machine) -> None:
    for _ in range(2):
        done = machine.run("migrate")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "The database is up to date.\n"


def test_the_api_refuses_to_serve_others_before_there_is_a_key(machine: Machine) -> None:
    environment = machine.environment("api", "api", free_port())
    environment["CELLGRAFT_HOST"] = services()["api"]["environment"]["CELLGRAFT_HOST"]
    refused = subprocess.run(
        _program(services()["api"]["command"]),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == REFUSED_EXIT
    assert "cellgraft keys create" in refused.stderr


@pytest.mark.slow
def test_the_whole_file(machine: Machine, tmp_path: Path) -> None:
    start_redis(machine)
    assert machine.run("migrate").returncode == 0
    made = machine.run("api", *["cellgraft", "keys", "create", "admin", "--scope", "admin"])
    key = made.stdout.strip()
    assert key.startswith("cg_"), made.stderr

    ports = [free_port(), free_port()]
    for number, port in enumerate(ports):
        machine.start("api", f"api-{number}", port)
    machine.start("worker", "worker")
    for number, port in enumerate(ports):
        until(lambda n=number, p=port: machine.is_healthy("api", f"api-{n}", p))
    until(lambda: machine.is_healthy("worker", "worker"))

    first, second = (f"http://127.0.0.1:{port}" for port in ports)
    sample = write(tmp_path / "sample.h5ad", cells(60, ["a", "b"], seed=1))
    query = curl(key, "-T", str(sample), f"{first}/v1/queries/")
    checked = curl(key, f"{second}/v1/queries/{query['id']}?wait=60")
    assert checked["state"] == "ready", checked
    assert checked["inspection"]["n_cells"] == 60
    ready = curl(key, f"{second}/readyz")
    assert ready["status"] == "ready"
    assert ready["workers"]["seen"] == 1
    assert ready["broker"] == "ok"

    for service, process in reversed(machine.processes):
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        grace = seconds(services()[service].get("stop_grace_period", "10s"))
        assert time.monotonic() - asked < grace, service
    assert not machine.is_healthy("worker", "worker")
    assert machine.run("api", "cellgraft", "fsck").returncode == 0
