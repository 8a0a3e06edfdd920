"""The same requests against the embedded and the distributed mode: the same bytes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from app.database import Database
from app.tables import Job
from tests.app.object_store import NewPlace, new_place  # noqa: F401 - a fixture
from tests.conftest import missing
from tests.e2e.processes import CHILD, find, gone
from tests.e2e.service import (
    CELLGRAFT,
    REFERENCE,
    WAIT_SECONDS,
    Serving,
    environment,
    free_port,
)
from tests.postgresql import Databases
from tests.redis_server import own_redis

N_APIS, N_WORKERS = 2, 3
REQUESTS = [
    {"batch_key": "sample"},
    {"batch_key": "sample", "recipe": "scvi-tools"},
    {"batch_key": "sample", "recipe": "forward"},
    {},
]
COMPARED = ["latent.npy", "latent.parquet", "latent.csv", "query_weights.safetensors"]


@dataclass
class Fleet:
    """API replicas and workers, each with a folder of its own, that share three URLs alone."""

    apis: list[Serving]
    workers: list[subprocess.Popen[bytes]]
    database_url: str


@contextmanager
def _started(folder: Path, urls: dict[str, str], *arguments: str) -> Iterator[Serving]:
    folder.mkdir()
    port = free_port()
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*CELLGRAFT, *arguments],
            env=environment(folder, port=str(port), poll_seconds="5", **urls),
            stdout=log,
            stderr=log,
        )
    try:
        yield Serving(port, folder, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.fixture(scope="module")
def urls(
    databases: Databases,
    new_place: NewPlace,  # noqa: F811 - the fixture
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, str]]:
    """PostgreSQL, Redis and an S3-compatible store."""
    program = shutil.which("redis-server")
    if program is None:
        missing("redis-server: install it")
    name = databases.create()
    with own_redis(program, tmp_path_factory.mktemp("redis")) as redis:
        yield {
            "database_url": databases.url_of(name),
            "broker_url": redis.url,
            "storage_url": new_place(),
        }
    databases.drop(name)


@pytest.fixture(scope="module")
def fleet(
    built: Path, urls: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    _build(folder / "administrator", built.parent / "reference.h5ad", urls)
    with ExitStack() as stack:
        apis = [
            stack.enter_context(_started(folder / f"api{i}", urls, "api")) for i in range(N_APIS)
        ]
        workers = [
            stack.enter_context(_started(folder / f"worker{i}", urls, "worker")).process
            for i in range(N_WORKERS)
        ]
        for api in apis:
            api.until_ready()
        yield Fleet(apis, workers, urls["database_url"])


def _build(folder: Path, cells: Path, urls: dict[str, str]) -> None:
    """The reference of `built`, by the same command with other URLs."""
    folder.mkdir()
    command = ["references", "build", str(cells), "--name", REFERENCE, "--batch-key", "sample"]
    command += ["--labels-key", "cell_type", "--max-epochs", "5"]
    command += ["--set", "n_hidden=32", "--set", "n_latent=4"]
    environ = environment(folder, **urls)
    done = subprocess.run(
        [*CELLGRAFT, *command], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _results(service: Serving, query: str, request: dict[str, str]) -> dict[str, bytes]:
    mapping = service.map(query, **request)
    assert mapping["state"] == "succeeded", mapping["problem"]
    return {name: service.result(mapping["id"], name) for name in COMPARED}


@pytest.fixture(scope="module")
def embedded(service: Serving, query_file: Path) -> list[dict[str, bytes]]:
    query = service.checked(query_file)["id"]
    return [_results(service, query, request) for request in REQUESTS]


def test_the_same_requests_give_the_same_bytes(
    fleet: Fleet, embedded: list[dict[str, bytes]], query_file: Path
) -> None:
    query = fleet.apis[0].checked(query_file)["id"]
    for at, (request, expected) in enumerate(zip(REQUESTS, embedded, strict=True)):
        # Asked of one replica or the other: neither keeps anything to itself.
        found = _results(fleet.apis[at % N_APIS], query, request)
        assert {name for name in COMPARED if found[name] != expected[name]} == set()


def test_a_worker_that_dies_leaves_the_same_bytes(
    fleet: Fleet, embedded: list[dict[str, bytes]], query_file: Path
) -> None:
    api = fleet.apis[1]
    query = api.checked(query_file)["id"]
    mapping = api.ask(query, **REQUESTS[1]).json["id"]
    busy = _busy(fleet, mapping)
    children = [find(busy.pid, CHILD)]
    busy.kill()
    busy.wait()
    found = api.finished(mapping)
    assert found["state"] == "succeeded", found["problem"]
    assert found["attempt"] == 2
    for name in COMPARED:
        assert api.result(mapping, name) == embedded[1][name], name
    assert gone(children)


def _busy(fleet: Fleet, mapping: str) -> subprocess.Popen[bytes]:
    """The worker that is in the middle of the mapping; its name holds its process id."""
    database = Database(fleet.database_url)
    deadline = time.monotonic() + WAIT_SECONDS
    try:
        while True:
            with database.reading() as session:
                job = session.scalars(select(Job).where(Job.subject_id == mapping)).one()
                if job.state == "running" and job.progress > 0.1 and job.worker is not None:
                    pid = int(job.worker.split(":")[1])
                    return next(worker for worker in fleet.workers if worker.pid == pid)
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        database.close()
