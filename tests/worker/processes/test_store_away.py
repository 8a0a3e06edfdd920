"""A worker whose store goes away: it waits, gives the job back without blame, and goes on later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.bell import PollingBell
from app.database import Database
from app.fsck import check_everything
from app.jobs import Claim
from app.problems import StorageAway
from app.s3_storage import S3Storage
from app.storage import read_whole
from app.tables import QueryMapping
from tests.app.factories import asked, built, checked
from tests.app.faulty_proxy import FaultyProxy
from tests.app.live import until
from tests.app.object_store import behind_proxy as behind_proxy
from tests.app.object_store import new_place as new_place
from tests.app.test_s3_faults import PROXIED, QUICK
from tests.worker.intake import files
from worker.attempt_store import WAITING, AttemptStore
from worker.attempts import Attempt
from worker.outcomes import Ended, Stopped
from worker.parent import Parent
from worker.workplace import Workplace

from .conftest import TIMING, Running, Work


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url  # the store is tested here, not the database


@pytest.fixture
def proxy(behind_proxy: PROXIED) -> FaultyProxy:
    return behind_proxy[1]


@pytest.fixture
def storage(behind_proxy: PROXIED, tmp_path: Path) -> S3Storage:
    return S3Storage(behind_proxy[0], folder=tmp_path / "cache", max_bytes=10**9, patience=QUICK)


def start(database: Database, place: Workplace) -> Running:
    return Running(Parent(database, place, TIMING, bell=PollingBell()))


@pytest.fixture
def impatient(place: Workplace) -> Workplace:
    return replace(place, patience_seconds=0.0)


def sound(database: Database, storage: S3Storage) -> None:
    with database.reading() as session:
        assert check_everything(session, storage, tell=lambda key: None) == []


def test_a_query_is_checked_from_and_into_the_store(
    place: Workplace, work: Work, database: Database, storage: S3Storage, tmp_path: Path
) -> None:
    query = work.upload(files.write_h5ad(tmp_path / "sound.h5ad").read_bytes())
    running = start(database, place)
    try:
        work.finish(query.job_id, "succeeded")
    finally:
        running.stop()
    assert b"format" in read_whole(storage, f"queries/{query.id}/canonical-1/canonical.json")
    sound(database, storage)
    left = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert left == ["room.lock"]  # a file that is not to be kept may have been read here


def test_a_job_outlives_a_store_that_is_away(
    impatient: Workplace,
    work: Work,
    database: Database,
    storage: S3Storage,
    proxy: FaultyProxy,
    tmp_path: Path,
) -> None:
    """More attempts than are allowed pass meanwhile; none of them counts."""
    query = work.upload(files.write_h5ad(tmp_path / "sound.h5ad").read_bytes())
    proxy.fault = "error"
    running = start(database, impatient)
    try:
        work.wait(query.job_id, lambda job: job.attempt > 3, 90)
        assert work.job(query.job_id).state in {"queued", "running"}
        proxy.fault = "none"
        work.wait(query.job_id, lambda job: job.state == "succeeded", 90)
    finally:
        running.stop()
    sound(database, storage)


def test_finished_work_waits_for_the_store(
    place: Workplace, work: Work, database: Database, storage: S3Storage, proxy: FaultyProxy
) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage), batch_key=("steps",))
    running = start(database, place)
    try:
        work.wait(mapping.job_id, lambda job: job.stage == "training")
        proxy.fault = "away"
        work.wait(mapping.job_id, lambda job: job.stage == WAITING, 60)
        proxy.fault = "none"
        job = work.finish(mapping.job_id, "succeeded")
        assert job.attempt == 1
    finally:
        running.stop()
    with database.reading() as session:
        assert session.get_one(QueryMapping, mapping.id).results_prefix is not None
    sound(database, storage)


class Waiting:
    """An attempt that asks a store which does what it is told."""

    def __init__(self, ask: Callable[[], Any], patience_seconds: float) -> None:
        self.ask = ask
        claim = Claim("job", "check", "subject", 1, "worker")
        self.patience_seconds = patience_seconds
        self.attempt = Attempt(
            claim, self._perform, threading.Event(), held_until=time.monotonic() + 60
        )

    def _perform(self, attempt: Attempt) -> Any:
        store = AttemptStore(self, attempt, patience_seconds=self.patience_seconds)  # type: ignore[arg-type]
        store.publish(Path("x"), "y")
        raise Stopped

    def publish_folder(self, local: Path, prefix: str) -> None:
        self.ask()

    def because(self) -> Exception:
        until(lambda: self.attempt.outcome is not None, 20)
        assert isinstance(self.attempt.outcome, Ended)
        return self.attempt.outcome.because


def away() -> None:
    raise StorageAway("away", fix="wait")


def test_patience_ends() -> None:
    assert isinstance(Waiting(away, 0.6).because(), StorageAway)


def test_a_cancel_is_heeded_while_the_store_is_away() -> None:
    waiting = Waiting(away, 600)
    until(lambda: waiting.attempt.stage == WAITING)
    waiting.attempt.stop()
    assert isinstance(waiting.because(), Stopped)
