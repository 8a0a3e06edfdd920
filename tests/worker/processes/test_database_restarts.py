"""PostgreSQL restarted under load: answers are 503, nothing accepted is lost, workers go on."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from sqlalchemy import func, select

from app.database import Database
from app.storage import LocalStorage
from app.tables import Event, Job, Query, QueryMapping
from tests.app.factories import built, checked
from tests.app.live import serving
from tests.postgresql import Databases, own_server
from worker.parent import Parent
from worker.workplace import Workplace

from .conftest import TIMING, Running, Work

CLIENTS = 4
RESTARTS = 3


class Load:
    """Clients that upload, ask for mappings, wait and list, and remember what they were told."""

    def __init__(self, url: str, query_id: str) -> None:
        self.answers: list[httpx.Response] = []
        self.queries: list[str] = []
        self.mappings: list[str] = []
        self._url, self._query_id = url, query_id
        self._over = threading.Event()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(60)

    def _client(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._over.is_set():
                uploaded = self._send(client, "PUT", "/v1/queries", content=b"no h5ad")
                if uploaded.status_code == 201:
                    self.queries.append(uploaded.json()["id"])
                mapping_id = self._ask(client)
                self.mappings.append(mapping_id)
                self._send(client, "GET", f"/v1/mappings/{mapping_id}?wait=0.5")
                self._send(client, "GET", "/v1/queries?limit=5")

    def _ask(self, client: httpx.Client) -> str:
        """Ask until it is accepted; the key makes it one mapping, however often that takes."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        body = {"query": self._query_id, "reference": "pbmc"}
        while True:
            answer = self._send(client, "POST", "/v1/mappings", json=body, headers=headers)
            if answer.status_code != 503:
                return str(answer.json()["id"])
            time.sleep(0.2)

    def _send(self, client: httpx.Client, method: str, path: str, **given: Any) -> httpx.Response:
        answer = client.request(method, path, **given)
        self.answers.append(answer)
        return answer


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_restart_under_load(
    how: Literal["fast", "immediate"],
    postgres_programs: Path,
    place: Workplace,
    storage: LocalStorage,
    tmp_path: Path,
) -> None:
    with own_server(postgres_programs) as server:  # it syncs, as one that is relied on does
        databases = Databases(server.url)
        url = databases.url_of(databases.create())
        database = Database(url)
        database.migrate()
        built(database, storage)
        query = checked(database, storage)
        running = Running(Parent(database, place, TIMING))
        try:
            with serving(tmp_path, database_url=url) as live:
                load = Load(live.url, query.id)
                with load.going_on():
                    for _ in range(RESTARTS):
                        time.sleep(1)
                        server.stop(how)
                        time.sleep(0.5)
                        server.start()
                    time.sleep(1)
            _judge_answers(load)
            _judge_jobs(load, database, Work(database, storage, tmp_path / "uploads"))
        finally:
            running.stop()
            database.close()


def _judge_answers(load: Load) -> None:
    statuses = Counter(answer.status_code for answer in load.answers)
    assert statuses.keys() <= {200, 201, 202, 503}, statuses
    assert statuses[503] > 0, "the load did not meet a restart"
    for answer in load.answers:
        if answer.status_code == 503:
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["type"] == "service-busy"
            assert int(answer.headers["Retry-After"]) > 0


def _judge_jobs(load: Load, database: Database, work: Work) -> None:
    """The worker has gone on by itself: whatever was accepted ends, once."""
    with database.reading() as session:
        mappings = {row.id: row.job_id for row in session.scalars(select(QueryMapping))}
        queries = {row.id: row.job_id for row in session.scalars(select(Query))}
    assert set(load.mappings) == mappings.keys()
    assert set(load.queries) <= queries.keys()  # an answer may be lost after the commit
    for job_id in mappings.values():
        work.finish(job_id, "succeeded")
    for job_id in queries.values():
        work.wait(job_id, lambda job: job.state in {"succeeded", "failed"})
    ends = ("map.succeeded", "check.failed")
    with database.reading() as session:
        told = select(Event.job_id, func.count()).where(Event.kind.in_(ends)).group_by(Event.job_id)
        ended = dict(session.execute(told).all())
        left = session.scalar(select(func.count()).where(Job.state.in_(["queued", "running"])))
    assert left == 0
    accepted = [mappings[each] for each in load.mappings] + [queries[each] for each in load.queries]
    assert {ended[job_id] for job_id in accepted} == {1}
    assert len(accepted) > 2 * CLIENTS
