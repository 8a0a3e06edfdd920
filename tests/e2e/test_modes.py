"""The same requests against the embedded and the distributed mode: the same bytes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Select, select

from app.database import Database
from app.shards import shards_prefix
from app.storage import open_storage
from app.tables import Job, Shard
from tests.app.object_store import NewPlace, new_place  # noqa: F401 - a fixture
from tests.conftest import missing
from tests.e2e.cells import cells, write
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
LARGE = {"batch_key": "sample"}
N_LARGE, SHARD_CELLS = 4500, 1024
COMPARED = ["latent.npy", "latent.parquet", "latent.csv", "query_weights.safetensors"]


@dataclass
class Fleet:
    """API replicas and workers, each with a folder of its own, that share three URLs alone."""

    apis: list[Serving]
    workers: list[subprocess.Popen[bytes]]
    urls: dict[str, str]

    @contextmanager
    def database(self) -> Iterator[Database]:
        database = Database(self.urls["database_url"])
        try:
            yield database
        finally:
            database.close()


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
            stack.enter_context(
                _started(folder / f"worker{i}", urls | {"shard_cells": str(SHARD_CELLS)}, "worker")
            ).process
            for i in range(N_WORKERS)
        ]
        for api in apis:
            api.until_ready()
        yield Fleet(apis, workers, urls)


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
    return _compared(service, mapping["id"])


def _compared(service: Serving, mapping: str) -> dict[str, bytes]:
    return {name: service.result(mapping, name) for name in COMPARED}


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


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(
        tmp_path_factory.mktemp("large") / "large.h5ad", cells(N_LARGE, ["S1", "S2"], seed=3)
    )


@pytest.fixture(scope="module")
def whole(service: Serving, large_file: Path) -> dict[str, bytes]:
    """What one worker makes of the large query."""
    mapping = service.map(service.checked(large_file)["id"], **LARGE)
    assert mapping["attempt"] == 1
    return {
        **_compared(service, mapping["id"]),
        "h5ad": service.result(mapping["id"], "query.h5ad"),
    }


def test_a_large_query_is_read_by_several_workers_to_the_same_bytes(
    fleet: Fleet, whole: dict[str, bytes], large_file: Path
) -> None:
    api = fleet.apis[0]
    mapping = api.map(api.checked(large_file)["id"], **LARGE)
    assert mapping["state"] == "succeeded", mapping["problem"]
    assert len(_shard_workers(fleet, mapping["id"])) == -(-N_LARGE // SHARD_CELLS)
    assert len(set(_shard_workers(fleet, mapping["id"]))) > 1
    found = _compared(api, mapping["id"])
    assert {name for name in COMPARED if found[name] != whole[name]} == set()
    assert api.result(mapping["id"], "query.h5ad") == whole["h5ad"]
    assert _until_removed(fleet, mapping["id"])


def test_a_worker_that_dies_with_a_shard_leaves_the_same_bytes(
    fleet: Fleet, whole: dict[str, bytes], large_file: Path
) -> None:
    api = fleet.apis[1]
    mapping = api.ask(api.checked(large_file)["id"], **LARGE).json["id"]
    busy = _worker_of(fleet, lambda: select(Job).join(Shard).where(Shard.mapping_id == mapping))
    busy.kill()
    busy.wait()
    found = api.finished(mapping)
    assert found["state"] == "succeeded", found["problem"]
    told = _compared(api, mapping)
    assert {name for name in COMPARED if told[name] != whole[name]} == set()


def _shard_workers(fleet: Fleet, mapping: str) -> list[str | None]:
    """Who read each shard."""
    with fleet.database() as database, database.reading() as session:
        shards = select(Job.worker).join(Shard).where(Shard.mapping_id == mapping)
        return list(session.scalars(shards))


def _until_removed(fleet: Fleet, mapping: str) -> bool:
    """Whether what was read for a mapping goes when nobody needs it any more."""
    storage = open_storage(fleet.urls["storage_url"], cache=Path("unused"), cache_bytes=1)
    deadline = time.monotonic() + 30
    while list(storage.keys(shards_prefix(mapping))):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _busy(fleet: Fleet, mapping: str) -> subprocess.Popen[bytes]:
    """The worker that is in the middle of the mapping."""
    return _worker_of(
        fleet, lambda: select(Job).where(Job.subject_id == mapping, Job.progress > 0.1)
    )


def _worker_of(fleet: Fleet, jobs: Callable[[], Select[tuple[Job]]]) -> subprocess.Popen[bytes]:
    """The worker, still alive, that is at work on one of these jobs; its name holds its pid."""
    deadline = time.monotonic() + WAIT_SECONDS
    with fleet.database() as database:
        while True:
            with database.reading() as session:
                running = session.scalars(jobs().where(Job.state == "running")).all()
                pids = [int(job.worker.split(":")[1]) for job in running if job.worker]
            for worker in fleet.workers:
                if worker.pid in pids and worker.poll() is None:
                    return worker
            assert time.monotonic() < deadline
            time.sleep(0.02)
