"""Workers as processes of their own, jobs for them, and what became of the jobs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from app.bell import Bell
from app.database import Database
from app.mappings import MappingRequest, submit_mapping
from app.storage import LocalStorage
from app.tables import Event, Job, Query, QueryMapping, Worker
from tests.app.factories import checked

ROOT = Path(__file__).parents[2]
ENDED = ("succeeded", "failed", "cancelled")


class Fleet:
    """Everything one test needs of a distributed service without its API."""

    def __init__(self, folder: Path, database: Database, url: str, broker: str, bell: Bell) -> None:
        self.folder, self.database, self.bell = folder, database, bell
        self.storage = LocalStorage(folder / "store")
        self.workers: list[subprocess.Popen[bytes]] = []
        self._settings = {
            "data_dir": str(folder),
            "database_url": url,
            "broker_url": broker,
            "disk_reserve_bytes": "0",
        }
        self._queries: dict[str, Query] = {}

    @contextmanager
    def working(
        self, count: int, *, seconds: float = 0.1, **settings: object
    ) -> Iterator[list[subprocess.Popen[bytes]]]:
        """So many workers, each ready, until the `with` ends."""
        before = self.workers_known()
        started = [self._start(seconds, settings) for _ in range(count)]
        self.workers += started
        try:
            self.wait(lambda: self.workers_known() >= before + count)
            yield started
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(20)

    def ask(self, *, owner: str = "local", do: str = "sleep", bell: Bell | None = None) -> str:
        """The job id of a new mapping, as the API would have made it, bell included."""
        if owner not in self._queries:
            self._queries[owner] = checked(self.database, self.storage, owner=owner)
        request = MappingRequest(query=self._queries[owner].id, reference="pbmc", batch_key=[do])
        with self.database.writing() as session:
            mapping, _ = submit_mapping(
                session, bell or self.bell, owner=owner, request=request, max_attempts=3
            )
        return mapping.job_id

    def job(self, job_id: str) -> Job:
        with self.database.reading() as session:
            return session.get_one(Job, job_id)

    def mapping_of(self, job_id: str) -> QueryMapping:
        with self.database.reading() as session:
            return session.scalars(select(QueryMapping).where(QueryMapping.job_id == job_id)).one()

    def count(self, jobs: Sequence[str], *states: str) -> int:
        with self.database.reading() as session:
            counted = select(func.count()).where(Job.id.in_(jobs), Job.state.in_(states))
            return session.scalar(counted) or 0

    def events(self, job_id: str) -> list[str]:
        with self.database.reading() as session:
            found = select(Event.kind).where(Event.job_id == job_id).order_by(Event.id)
            return list(session.scalars(found))

    def finish(self, *jobs: str, seconds: float = 60) -> None:
        """Wait until all have succeeded, each once."""
        self.wait(lambda: self.count(jobs, *ENDED) == len(jobs), seconds)
        for job_id in jobs:
            ends = [kind for kind in self.events(job_id) if kind.split(".")[1] in ENDED]
            assert ends == ["map.succeeded"], (job_id, ends, self.job(job_id).problem)

    def workers_known(self) -> int:
        with self.database.reading() as session:
            return session.scalar(select(func.count()).where(Worker.warm.is_not(None))) or 0

    def wait(self, condition: Callable[[], Any], seconds: float = 30) -> float:
        """Seconds until the condition held."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, "waited too long"
            time.sleep(0.02)
        return time.monotonic() - began

    def _start(self, seconds: float, settings: dict[str, object]) -> subprocess.Popen[bytes]:
        plain = {name: v for name, v in os.environ.items() if not name.startswith("CELLGRAFT_")}
        ours = self._settings | {name: str(value) for name, value in settings.items()}
        named = {f"CELLGRAFT_{name.upper()}": value for name, value in ours.items()}
        stub = {"STUB_SECONDS": str(seconds), "PYTHONPATH": str(ROOT)}
        with (self.folder / "workers.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.distributed.stub"],
                env=plain | named | stub,
                stdout=log,
                stderr=log,
            )
