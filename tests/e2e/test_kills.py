"""kill -9 in the middle: jobs end succeeded, once, with the same bytes; nothing is left running."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cells import cells, write
from tests.e2e.processes import API, CHILD, PARENT, ZYGOTE, descendants, find, gone, is_running
from tests.e2e.service import Serving, cellgraft

pytestmark = pytest.mark.slow
SAME = {"latent.npy", "latent.parquet", "latent.csv", "query_weights.safetensors", "query.h5ad"}


@pytest.fixture(scope="module")
def query(service: Serving, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One whose fit by recipe `scvi-tools` takes some seconds."""
    path = tmp_path_factory.mktemp("long") / "long.h5ad"
    ready = service.checked(write(path, cells(1200, ["S1"], seed=3)))
    assert ready["state"] == "ready", ready["problem"]
    return str(ready["id"])


@pytest.fixture(scope="module")
def undisturbed(service: Serving, query: str) -> dict[str, str]:
    """The digests of a run in which nothing happened."""
    mapping = service.map(query, recipe="scvi-tools")
    assert (mapping["state"], mapping["attempt"]) == ("succeeded", 1), mapping["problem"]
    return digests(mapping)


def digests(mapping: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["sha256"] for each in mapping["results"] if each["name"] in SAME}


def in_the_middle(service: Serving, query: str) -> str:
    """A mapping that is running, and whose fit moves on."""
    mapping = str(service.ask(query, recipe="scvi-tools").json["id"])
    deadline = time.monotonic() + 30
    seen: set[float] = set()
    while len(seen) < 2:
        assert time.monotonic() < deadline
        now = service.get(f"/v1/mappings/{mapping}")
        assert not now["terminal"], "it was over before it could be disturbed"
        if (now["state"], now["stage"]) == ("running", "fitting"):
            seen.add(now["progress"])
    return mapping


def rows(service: Serving, statement: str, *values: str) -> list[Any]:
    with sqlite3.connect(service.data_dir / "cellgraft.db", timeout=10) as connection:
        found = connection.execute(statement, values).fetchall()
    connection.close()
    return found


def once(service: Serving, mapping: str) -> bool:
    """One terminal event, and the files of one attempt."""
    kinds = rows(service, "SELECT kind FROM events WHERE subject_id = ?", mapping)
    ends = [kind for (kind,) in kinds if kind in {"map.succeeded", "map.failed", "map.cancelled"}]
    attempts = list((service.data_dir / "store" / "mappings" / mapping).iterdir())
    return ends == ["map.succeeded"] and len(attempts) == 1


@pytest.mark.parametrize(("victim", "attempts"), [(CHILD, 2), (PARENT, 2), (API, 1)])
def test_a_killed_process_costs_time_and_nothing_else(
    service: Serving, query: str, undisturbed: dict[str, str], victim: str, attempts: int
) -> None:
    mapping = in_the_middle(service, query)
    pid = find(service.process.pid, victim)
    os.kill(pid, signal.SIGKILL)
    service.until_ready()
    finished = service.finished(mapping)
    assert (finished["state"], finished["attempt"]) == ("succeeded", attempts), finished["problem"]
    assert digests(finished) == undisturbed
    assert once(service, mapping)
    assert list((service.data_dir / "staging").iterdir()) == []
    assert find(service.process.pid, victim) != pid


def test_a_killed_zygote_costs_the_check_an_attempt(service: Serving, tmp_path: Path) -> None:
    file = write(tmp_path / "many.h5ad", cells(6000, ["S1"], seed=4))
    pid = find(service.process.pid, ZYGOTE)
    query = service.upload(file)["id"]
    at_work = "SELECT 1 FROM jobs WHERE subject_id = ? AND state = 'running'"
    deadline = time.monotonic() + 10
    while not rows(service, at_work, query):
        assert time.monotonic() < deadline
    os.kill(pid, signal.SIGKILL)
    ready = service.get(f"/v1/queries/{query}?wait=30")
    assert ready["state"] == "ready", ready
    assert rows(service, "SELECT attempt FROM jobs WHERE subject_id = ?", query) == [(2,)]
    assert find(service.process.pid, ZYGOTE) != pid


def test_a_killed_supervisor_leaves_no_process_behind(service: Serving, query: str) -> None:
    """The last test here: `service` is dead after it, and another one carries on."""
    mapping = in_the_middle(service, query)
    family = descendants(service.process.pid)
    assert len(family) >= 4
    service.process.kill()
    service.process.wait()
    assert gone(family), [pid for pid in family if is_running(pid)]
    assert rows(service, "SELECT state FROM jobs WHERE subject_id = ?", mapping) == [("queued",)]
    assert list((service.data_dir / "staging").iterdir()) == []
    assert "agree" in cellgraft(service.data_dir, "fsck")
