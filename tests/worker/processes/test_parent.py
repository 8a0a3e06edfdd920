"""The parent: every job ends once, whatever dies; cancels, lost leases and stops are heeded."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.database import Database
from app.storage import LocalStorage
from app.tables import Event, Query, QueryMapping, ReferenceVersion
from tests.app.factories import asked, built, checked
from tests.worker.intake import files
from worker.canonical import CanonicalQuery
from worker.lanes import Keeper
from worker.parent import Parent
from worker.workplace import Workplace

from .conftest import TIMING, Running, Work


def test_a_query_is_checked(
    running: Running, work: Work, database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    content = files.write_h5ad(tmp_path / "sound.h5ad").read_bytes()
    query = work.upload(content)
    work.finish(query.job_id, "succeeded")
    with database.reading() as session:
        stored = session.get_one(Query, query.id)
        assert (stored.state, stored.canonical_prefix) == (
            "ready",
            f"queries/{query.id}/canonical-1",
        )
        assert stored.inspection is not None
        assert stored.inspection["n_cells"] == files.CELLS
        canonical = CanonicalQuery.open(storage.local_folder(stored.canonical_prefix))
    assert canonical.n_genes == files.GENES


def test_a_bad_query_is_rejected_with_its_problem(
    running: Running, work: Work, database: Database, place: Workplace
) -> None:
    query = work.upload(b"not an h5ad at all")
    job = work.finish(query.job_id, "failed")
    assert job.problem is not None
    assert job.problem["type"] == "unreadable-file"
    with database.reading() as session:
        stored = session.get_one(Query, query.id)
        assert stored.state == "rejected"
        assert stored.problem is not None
        assert stored.inspection is not None
        assert stored.inspection["problems"] == stored.problem["errors"]
    running.stop()
    assert list(place.staging.iterdir()) == []


def test_a_mapping_is_published_with_its_hashes(
    running: Running, work: Work, database: Database, storage: LocalStorage
) -> None:
    running.stop()  # the factories claim jobs themselves
    built(database, storage)
    mapping = asked(database, checked(database, storage), batch_key=("sample",))
    again = Running(Parent(database, running.parent._place, TIMING))
    try:
        work.finish(mapping.job_id, "succeeded")
    finally:
        again.stop()
    with database.reading() as session:
        stored = session.get_one(QueryMapping, mapping.id)
        assert stored.results is not None
        (result,) = stored.results
        assert result == {
            "name": "latent.npy",
            "bytes": 7,
            "sha256": hashlib.sha256(b"numbers").hexdigest(),
            "media_type": "application/x-npy",
        }
        assert stored.summary is not None
        assert stored.summary["did"] == "sample"
        assert storage.exists(f"{stored.results_prefix}/latent.npy")


def build_and_run(work: Work, database: Database, place: Workplace, **options: object) -> tuple:
    version = work.build(**options)
    return version, Running(Parent(database, place, TIMING))


def test_a_reference_is_built(
    work: Work, database: Database, place: Workplace, storage: LocalStorage
) -> None:
    version, running = build_and_run(work, database, place, do="finish")
    work.finish(version.job_id, "succeeded")
    running.stop()
    with database.reading() as session:
        stored = session.get_one(ReferenceVersion, version.id)
        assert stored.state == "ready"
        assert stored.manifest is not None
        assert stored.manifest["did"] == "finish"
    assert storage.exists("references/demo/1/1/latent.npy")
    assert list(place.staging.iterdir()) == []


@pytest.mark.parametrize(
    ("do", "problem"), [("refuse", "untrainable-reference"), ("fault", "internal-fault")]
)
def test_problems_of_the_child_end_the_job(
    do: str, problem: str, work: Work, database: Database, place: Workplace
) -> None:
    version, running = build_and_run(work, database, place, do=do)
    job = work.finish(version.job_id, "failed")
    running.stop()
    assert job.attempt == 1
    assert job.problem is not None
    assert job.problem["type"] == problem


def test_a_summary_that_the_database_cannot_keep_ends_the_job(
    postgresql_url: str, place: Workplace, storage: LocalStorage
) -> None:
    """PostgreSQL takes no JSON with NaN; the worker must not try for ever, or end."""
    database = Database(postgresql_url)
    built(database, storage)
    mapping = asked(database, checked(database, storage), batch_key=["not-a-number"])
    work = Work(database, storage, place.staging)
    running = Running(Parent(database, place, TIMING))
    job = work.finish(mapping.job_id, "failed")
    assert job.problem is not None
    assert (job.problem["type"], job.attempt) == ("internal-fault", 1)
    running.stop()
    assert list(storage.keys(f"mappings/{mapping.id}")) == []
    database.close()


def test_progress_is_told(work: Work, database: Database, place: Workplace) -> None:
    version, running = build_and_run(work, database, place, do="steps", steps=150)
    job = work.wait(version.job_id, lambda job: job.progress > 0.1)
    assert job.stage == "training"
    work.finish(version.job_id, "succeeded")
    running.stop()


def test_a_child_killed_in_the_middle_costs_one_attempt(
    work: Work, database: Database, place: Workplace
) -> None:
    version, running = build_and_run(work, database, place, do="steps", steps=60)
    work.wait(version.job_id, lambda job: job.stage == "training")
    assert place.child.pid is not None
    os.kill(place.child.pid, signal.SIGKILL)
    job = work.finish(version.job_id, "succeeded")
    running.stop()
    assert job.attempt == 2
    with database.reading() as session:
        kinds = session.scalars(
            select(Event.kind).where(Event.job_id == version.job_id).order_by(Event.id)
        ).all()
    assert kinds.count("build.succeeded") == 1


def test_a_child_that_always_dies_loses_the_job(
    work: Work, database: Database, place: Workplace
) -> None:
    version, running = build_and_run(work, database, place, do="die")
    job = work.finish(version.job_id, "failed")
    running.stop()
    assert job.attempt == 3
    assert job.problem is not None
    assert job.problem["type"] == "worker-lost"


def test_the_zygote_may_die_between_checks(
    running: Running, work: Work, place: Workplace, tmp_path: Path
) -> None:
    content = files.write_h5ad(tmp_path / "sound.h5ad").read_bytes()
    work.finish(work.upload(content).job_id, "succeeded")
    assert place.zygote.pid is not None
    os.kill(place.zygote.pid, signal.SIGKILL)
    work.finish(work.upload(content).job_id, "succeeded")


@pytest.mark.parametrize(("do", "within"), [("steps", 1.0), ("hang", 2.5)])
def test_a_cancel_is_heeded(
    do: str, within: float, work: Work, database: Database, place: Workplace
) -> None:
    version, running = build_and_run(work, database, place, do=do)
    work.wait(version.job_id, lambda job: job.stage is not None)
    first = place.child.pid
    began = time.monotonic()
    work.change(version.job_id, cancel_requested=True)
    work.finish(version.job_id, "cancelled")
    took = time.monotonic() - began
    assert took < within
    after = work.build(name="after", do="finish")
    work.finish(after.job_id, "succeeded")
    same = place.child.pid == first
    running.stop()
    assert same == (do == "steps")  # a child that reacts is kept, one that does not is replaced


def test_a_lost_lease_ends_the_work_and_leaves_no_trace(
    work: Work, database: Database, place: Workplace, storage: LocalStorage
) -> None:
    version, running = build_and_run(work, database, place, do="hang")
    work.wait(version.job_id, lambda job: job.stage is not None)
    work.change(version.job_id, worker="somebody-else", attempt=7, lease_until=4e9)
    deadline = time.monotonic() + 10
    while list(place.staging.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(place.staging.iterdir()) == []
    job = work.job(version.job_id)
    assert (job.state, job.worker) == ("running", "somebody-else")
    assert not storage.exists("references/demo/1")
    running.stop()
    assert work.job(version.job_id).worker == "somebody-else"


def test_a_deleted_job_ends_the_work(
    work: Work, database: Database, place: Workplace, storage: LocalStorage, tmp_path: Path
) -> None:
    version, running = build_and_run(work, database, place, do="steps")
    work.wait(version.job_id, lambda job: job.stage is not None)
    with database.writing() as session:
        session.delete(session.get_one(ReferenceVersion, version.id))
        session.flush()
        session.delete(work.job(version.job_id))
        session.commit()
    after = work.build(name="after", do="finish")
    work.finish(after.job_id, "succeeded")
    running.stop()


def test_a_stop_gives_the_job_back_without_blame(
    work: Work, database: Database, place: Workplace
) -> None:
    version, running = build_and_run(work, database, place, do="steps", steps=250)  # 5 s
    work.wait(version.job_id, lambda job: job.stage == "training")
    began = time.monotonic()
    running.stop()
    assert time.monotonic() - began < 5
    job = work.job(version.job_id)
    assert job.state == "queued"
    assert job.max_attempts - job.attempt == 3
    assert list(place.staging.iterdir()) == []
    again = Running(Parent(database, place, TIMING))
    work.finish(version.job_id, "succeeded")
    again.stop()


def test_a_start_sweeps_scratch_that_nobody_works_on(
    work: Work, database: Database, place: Workplace
) -> None:
    version = work.build(do="finish")
    alive = place.staging / f"{version.job_id}-4"
    stale = place.staging / f"{'0' * 32}-1"
    upload = place.staging / "upload-1.part"
    for folder in (alive, stale, upload):
        folder.mkdir()
    work.change(version.job_id, state="running", attempt=4, worker="other", lease_until=4e9)
    running = Running(Parent(database, place, TIMING))
    deadline = time.monotonic() + 10
    while stale.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.stop()
    assert not stale.exists()
    assert alive.exists()
    assert upload.exists()


def test_the_scratch_of_a_killed_worker_goes_when_its_lease_has_run_out(
    running: Running, work: Work, place: Workplace
) -> None:
    version = work.build(name="other", do="hang")
    work.wait(version.job_id, lambda job: job.stage is not None)
    second = work.build(do="finish")  # waits behind the first
    left = place.staging / f"{second.job_id}-1"
    left.mkdir()
    work.change(second.job_id, state="running", attempt=1, worker="killed", lease_until=0.0)
    work.wait(second.job_id, lambda job: job.state == "queued")
    deadline = time.monotonic() + 10
    while left.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left.exists()


def test_a_database_that_is_away_for_a_while(
    work: Work, database: Database, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = work.build(do="finish")
    trouble = iter([True, False, True, True, False, True])
    writing = database.writing

    def flaky() -> object:
        if next(trouble, False):
            raise OperationalError("BEGIN", {}, Exception("database is locked"))
        return writing()

    monkeypatch.setattr(database, "writing", flaky)
    running = Running(Parent(database, place, TIMING))
    work.finish(version.job_id, "succeeded")
    running.stop()


def test_a_process_that_dies_young_is_started_ever_more_slowly() -> None:
    class Stillborn:
        starts = 0

        def is_alive(self) -> bool:
            return False

        def start(self) -> None:
            self.starts += 1

        def stop(self) -> None:
            pass

    process = Stillborn()
    keeper = Keeper(process)
    deadline = time.monotonic() + 1.2
    while time.monotonic() < deadline:
        keeper.tend()
        time.sleep(0.01)
    assert 1 < process.starts <= 4
