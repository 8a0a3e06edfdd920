"""A parent with its real zygote and a real child that runs fakes, on a real database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.bell import PollingBell
from app.database import Database
from app.queries import create_query
from app.references import submit_build
from app.storage import LocalStorage
from app.tables import Job, Query, ReferenceVersion
from tests.app.factories import checked, staged_file
from worker.child_process import ChildProcess
from worker.lanes import Timing
from worker.parent import Parent
from worker.workplace import Workplace
from worker.zygote_process import ZygoteProcess

RUNS = "tests.worker.processes.fake_runs"
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _processes_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


@pytest.fixture
def place(storage: LocalStorage, tmp_path: Path) -> Iterator[Workplace]:
    (tmp_path / "staging").mkdir()
    made = Workplace(
        storage=storage,
        staging=tmp_path / "staging",
        zygote=ZygoteProcess(),
        child=ChildProcess(threads=1, runs=RUNS, grace_seconds=0.5, stall_seconds=20),
        device="cpu",
    )
    yield made
    made.zygote.stop()
    made.child.stop()


class Work:
    """Puts jobs into the database and watches them."""

    def __init__(self, database: Database, storage: LocalStorage, staging: Path) -> None:
        self.database, self.storage, self.staging = database, storage, staging

    def upload(self, content: bytes, **options: Any) -> Query:
        staged = staged_file(self.staging, content)
        given = {"layer": None, "input": "counts", **options}
        with self.database.writing() as session:
            return create_query(
                session,
                PollingBell(),
                owner="local",
                staged=staged,
                storage=self.storage,
                filename="query.h5ad",
                options=given,
                max_attempts=3,
            )

    @cached_property
    def cells(self) -> Query:
        """Made with the first build, before a parent runs that would take the check for its own."""
        return checked(self.database, self.storage)

    def build(self, *, name: str = "demo", **options: Any) -> ReferenceVersion:
        query = self.cells
        with self.database.writing() as session:
            return submit_build(
                session,
                PollingBell(),
                owner="local",
                name=name,
                query_id=query.id,
                options=options,
                max_attempts=3,
            )

    def change(self, job_id: str, **values: Any) -> None:
        with self.database.writing() as session:
            session.execute(update(Job).where(Job.id == job_id).values(**values))
            session.commit()

    def job(self, job_id: str) -> Job:
        with self.database.reading() as session:
            return session.get_one(Job, job_id)

    def wait(self, job_id: str, done: Callable[[Job], bool], seconds: float = 20.0) -> Job:
        deadline = time.monotonic() + seconds
        while not done(job := self.job(job_id)):
            assert time.monotonic() < deadline, (job.state, job.stage, job.attempt, job.problem)
            time.sleep(0.02)
        return job

    def finish(self, job_id: str, state: str) -> Job:
        ended = {"succeeded", "failed", "cancelled"}
        job = self.wait(job_id, lambda job: job.state in ended)
        assert job.state == state, job.problem
        return job


@pytest.fixture
def work(database: Database, storage: LocalStorage, tmp_path: Path) -> Work:
    return Work(database, storage, tmp_path / "uploads")


class Running:
    """A parent on a thread of its own. The thread outlives its processes, as the kernel asks."""

    def __init__(self, parent: Parent) -> None:
        self.parent = parent
        self.thread = threading.Thread(target=parent.run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.parent.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


TIMING = Timing(
    lease_seconds=5, heartbeat_seconds=0.3, poll_seconds=0.02, reap_seconds=0.2, drain_seconds=2
)


@pytest.fixture
def running(database: Database, place: Workplace) -> Iterator[Running]:
    started = Running(Parent(database, place, TIMING))
    yield started
    started.stop()
