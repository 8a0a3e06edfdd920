"""How many workers KEDA is told to want: the manifest's own SQL, run by PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.columns import utc_now
from app.database import Database
from app.tables import Job, Query, new_id

from .test_kubernetes import named


class Queue:
    """Jobs of a database of PostgreSQL, and what the trigger says of them."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        trigger = named("ScaledObject", "cellgraft-worker")["spec"]["triggers"][0]
        self._sql = text(trigger["metadata"]["query"])
        self._target = float(trigger["metadata"]["targetQueryValue"])

    def add(self, *, seconds_ago: float = 0.0, **values: Any) -> Job:
        created = utc_now() - timedelta(seconds=seconds_ago)
        job = Job(kind="map", subject_id=new_id(), owner="local", created_at=created)
        for name, value in values.items():
            setattr(job, name, value)
        self._store(job)
        return job

    def add_query(self, state: str, *, seconds_ago: float) -> str:
        check = self.add(kind="check", state="succeeded", seconds_ago=seconds_ago)
        at = utc_now() - timedelta(seconds=seconds_ago)
        query = Query(
            owner="local",
            state=state,
            filename="query.h5ad",
            bytes=1,
            sha256="0" * 64,
            storage_key="queries/x",
            options={},
            tags=[],
            job_id=check.id,
            created_at=at,
            updated_at=at,
        )
        self._store(query)
        return query.id

    def wanted(self) -> int:
        """As KEDA and the autoscaler reckon: the value over its target, rounded up."""
        with self.database.reading() as session:
            return math.ceil(float(session.scalar(self._sql)) / self._target)

    def _store(self, row: Any) -> None:
        with self.database.writing() as session:
            session.add(row)
            session.commit()


@pytest.fixture
def queue(postgresql_url: str) -> Iterator[Queue]:
    made = Queue(postgresql_url)
    yield made
    made.database.close()


def test_nothing_to_do_wants_nobody(queue: Queue) -> None:
    queue.add(state="succeeded", seconds_ago=9000)
    queue.add(state="failed", worker="a", seconds_ago=9000)
    assert queue.wanted() == 0


def test_a_worker_at_work_is_wanted_once(queue: Queue) -> None:
    queue.add(state="running", worker="a", seconds_ago=9000)
    queue.add(state="running", worker="a", kind="check", seconds_ago=9000)
    assert queue.wanted() == 1
    queue.add(state="running", worker="b")
    assert queue.wanted() == 2


def test_each_minute_of_waiting_wants_one_more(queue: Queue) -> None:
    queue.add(state="running", worker="a")
    queue.add(seconds_ago=5)
    assert queue.wanted() == 2
    queue.add(seconds_ago=150)
    assert queue.wanted() == 4


def test_a_mapping_of_an_unchecked_query_does_not_wait(queue: Queue) -> None:
    query = queue.add_query("checking", seconds_ago=600)
    queue.add(needs_query_id=query, seconds_ago=600)
    assert queue.wanted() == 0


def test_a_mapping_waits_since_its_query_is_ready(queue: Queue) -> None:
    query = queue.add_query("ready", seconds_ago=70)
    queue.add(needs_query_id=query, seconds_ago=6000)
    assert queue.wanted() == 2
