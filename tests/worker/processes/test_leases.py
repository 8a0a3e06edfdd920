"""A worker that cannot reach the database gives its job up by itself, before another has it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from app.database import Database
from worker.outcomes import Ended, Stopped
from worker.parent import Parent
from worker.workplace import Workplace

from .conftest import TIMING, Running, Work


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url  # the absence is made up above the database, so one of them is enough


@pytest.fixture
def away(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While it is set, a parent's thread does not reach the database; the test does."""
    event, test = threading.Event(), threading.get_ident()
    for name in ("reading", "writing"):
        reach = getattr(database, name)

        def maybe(reach: Any = reach) -> AbstractContextManager[Any]:
            if event.is_set() and threading.get_ident() != test:
                raise OperationalError("SELECT 1", {}, Exception("no route to host"))
            return reach()

        monkeypatch.setattr(database, name, maybe)
    yield event
    event.clear()


def test_an_attempt_ends_when_its_lease_has_run_out(
    work: Work, database: Database, place: Workplace, away: threading.Event
) -> None:
    version = work.build(do="steps", steps=400)  # eight seconds of work
    timing = dataclasses.replace(TIMING, lease_seconds=0.8)
    parent = Parent(database, place, timing)
    running = Running(parent)
    try:
        work.wait(version.job_id, lambda job: job.stage == "training")
        attempt = parent.lanes[1].attempt
        assert attempt is not None
        away.set()
        deadline = time.monotonic() + 4
        while attempt.outcome is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert isinstance(attempt.outcome, Ended)
        assert isinstance(attempt.outcome.because, Stopped)
        assert 0.5 < attempt.seconds < 4
        away.clear()
        job = work.wait(version.job_id, lambda job: job.attempt == 2)
        assert job.max_attempts - job.attempt >= 1
    finally:
        away.clear()
        running.stop()


def test_a_short_absence_of_the_database_costs_nothing(
    work: Work, database: Database, place: Workplace, away: threading.Event
) -> None:
    version = work.build(do="steps", steps=60)
    running = Running(Parent(database, place, TIMING))
    try:
        work.wait(version.job_id, lambda job: job.stage == "training")
        away.set()
        time.sleep(0.7)
        away.clear()
        assert work.finish(version.job_id, "succeeded").attempt == 1
    finally:
        away.clear()
        running.stop()
