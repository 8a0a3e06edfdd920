"""An idle worker hears of new jobs at once, where the database tells of changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.database import Database
from app.storage import LocalStorage
from tests.app.factories import asked, built
from tests.worker.intake import files
from worker.parent import Parent
from worker.workplace import Workplace

from .conftest import TIMING, Running, Work

DEAF_TO_THE_CLOCK = replace(TIMING, poll_seconds=300, heartbeat_seconds=300, lease_seconds=900)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_upload_is_checked_and_mapped_without_a_poll(
    work: Work, database: Database, place: Workplace, storage: LocalStorage, tmp_path: Path
) -> None:
    built(database, storage)
    running = Running(Parent(database, place, replace(DEAF_TO_THE_CLOCK, reap_seconds=300)))
    try:
        first = work.upload(files.write_h5ad(tmp_path / "first.h5ad").read_bytes())
        checked = work.finish(first.job_id, "succeeded")
        second = work.upload(files.write_h5ad(tmp_path / "second.h5ad").read_bytes())
        mapping = asked(database, second, batch_key=("finish",))
        mapped = work.finish(mapping.job_id, "succeeded")
    finally:
        running.stop()
    for job in (checked, mapped):
        assert job.started_at is not None
        waited = (job.started_at - job.created_at).total_seconds()
        assert waited < DEAF_TO_THE_CLOCK.poll_seconds / 10
