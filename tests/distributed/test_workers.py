"""Several workers: who gets which job, and what happens when one of them goes."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from sqlalchemy import select

from app.bell import PollingBell
from app.mappings import cancel_mapping
from app.tables import Job, Worker

from .fleet import Fleet

JOBS = 60
KEYS = 20


def seconds_for(fleet: Fleet, workers: int) -> float:
    """From the first start to the last end of sixty jobs, by the database's rows."""
    with fleet.working(workers, seconds=0.5):
        jobs = [fleet.ask() for _ in range(JOBS)]
        fleet.finish(*jobs, seconds=120)
    with fleet.database.reading() as session:
        rows = session.execute(
            select(Job.started_at, Job.finished_at).where(Job.id.in_(jobs))
        ).all()
    span = max(row.finished_at for row in rows) - min(row.started_at for row in rows)
    return span.total_seconds()


@pytest.mark.slow
def test_three_workers_do_nearly_three_times_as_much(
    fleet: Fleet, record_property: pytest.RecordProperty
) -> None:
    one, three = seconds_for(fleet, 1), seconds_for(fleet, 3)
    record_property("seconds of one and of three workers", (one, three))
    assert one / three >= 2.5, (one, three)


@pytest.mark.slow
def test_keys_are_served_alike(fleet: Fleet, record_property: pytest.RecordProperty) -> None:
    """One key asks for a hundred mappings before the others ask for ten each."""
    greedy = [fleet.ask(owner="key-0") for _ in range(100)]
    others = [fleet.ask(owner=f"key-{n}") for n in range(1, KEYS) for _ in range(10)]
    jobs = greedy + others
    with fleet.working(3, seconds=0.02):
        fleet.wait(lambda: fleet.count(jobs, "succeeded") >= 5 * KEYS, 60)
        with fleet.database.reading() as session:
            found = session.execute(
                select(Job.owner).where(Job.id.in_(jobs), Job.state == "succeeded")
            )
            served = Counter(found.scalars())
    record_property("served when half was done", sorted(served.values()))
    assert len(served) == KEYS
    assert max(served.values()) <= 2 * min(served.values()), served


def workers_of(fleet: Fleet, jobs: list[str]) -> list[str | None]:
    return [fleet.job(job).worker for job in jobs]


def test_a_mapping_goes_to_the_worker_that_has_its_reference(fleet: Fleet) -> None:
    with fleet.working(2, seconds=0.05):
        first = fleet.ask()
        fleet.finish(first)
        warm = fleet.job(first).worker
        fleet.wait(lambda: known(fleet, warm))
        jobs = []
        for _ in range(8):
            jobs.append(fleet.ask())
            fleet.finish(jobs[-1])
            time.sleep(0.2)
        assert workers_of(fleet, jobs) == [warm] * 8


def known(fleet: Fleet, worker: str | None) -> bool:
    """Whether the database knows that this worker has something loaded."""
    with fleet.database.reading() as session:
        return bool(session.scalar(select(Worker.warm).where(Worker.name == worker)))


def test_nobody_waits_for_a_warm_worker_that_is_busy(fleet: Fleet) -> None:
    with fleet.working(2, seconds=3):
        first = fleet.ask()
        fleet.finish(first)
        busy, other = fleet.ask(), fleet.ask()
        fleet.wait(lambda: fleet.count([busy, other], "running") == 2, 2.5)
        assert len({*workers_of(fleet, [busy, other])}) == 2


def test_nobody_waits_long_for_a_warm_worker_that_is_dead(fleet: Fleet) -> None:
    with fleet.working(1, seconds=0.05) as warm:
        first = fleet.ask()
        fleet.finish(first)
        fleet.wait(lambda: known(fleet, fleet.job(first).worker))
        with fleet.working(1, seconds=0.05):
            warm[0].kill()
            warm[0].wait()
            job = fleet.ask()
            assert fleet.wait(lambda: fleet.count([job], "succeeded")) < 5


def test_a_killed_workers_job_is_done_by_another(fleet: Fleet) -> None:
    with fleet.working(1, seconds=30, lease_seconds=3, heartbeat_seconds=1) as first:
        job = fleet.ask()
        fleet.wait(lambda: fleet.count([job], "running"))
        with fleet.working(1, seconds=0.05, lease_seconds=3, heartbeat_seconds=1):
            first[0].kill()
            first[0].wait()
            assert fleet.wait(lambda: fleet.count([job], "succeeded")) < 3 + 10
    assert fleet.job(job).attempt == 2


def test_a_worker_told_to_stop_hands_its_job_over(fleet: Fleet) -> None:
    with fleet.working(1, seconds=30) as first:
        job = fleet.ask()
        fleet.wait(lambda: fleet.count([job], "running"))
        with fleet.working(1, seconds=0.05, poll_seconds=300):
            first[0].terminate()
            assert fleet.wait(lambda: fleet.count([job], "succeeded")) < 10
        assert first[0].wait(10) == 0
    done = fleet.job(job)
    assert done.max_attempts - done.attempt == 2  # the first attempt does not count
    assert fleet.workers_known() == 0


def test_another_process_cancels_queued_and_running_jobs(fleet: Fleet) -> None:
    with fleet.working(1, seconds=30):
        running, queued = fleet.ask(), fleet.ask()
        fleet.wait(lambda: fleet.count([running], "running"))
        for job in (queued, running):
            mapping = fleet.mapping_of(job)
            with fleet.database.writing() as session:
                cancel_mapping(session, owner="local", mapping_id=mapping.id)
        assert fleet.count([queued], "cancelled") == 1
        assert fleet.wait(lambda: fleet.count([running], "cancelled")) < 3


@pytest.mark.parametrize("do", ["still", "deaf"])
def test_a_job_that_stands_still_is_taken_away_and_counted(fleet: Fleet, do: str) -> None:
    """Its worker lives and says so; only the job does not move on."""
    settings = {"stall_seconds": 1, "heartbeat_seconds": 0.5, "lease_seconds": 2}
    with fleet.working(1, seconds=0.05, **settings):
        job = fleet.ask(do=do)
        fleet.wait(lambda: fleet.count([job], "failed"), 60)
        found = fleet.job(job)
        assert found.attempt == found.max_attempts == 3
        assert found.problem is not None
        assert found.problem["type"] == "worker-lost"
        fleet.finish(fleet.ask(), seconds=30)  # and the worker still works


def test_a_ring_that_was_lost_is_rung_again(fleet: Fleet) -> None:
    """A worker that hardly ever looks hears of the job from another one, which is busy."""
    with fleet.working(1, seconds=60):
        busy = fleet.ask()
        fleet.wait(lambda: fleet.count([busy], "running"))
        with fleet.working(
            1, seconds=0, poll_seconds=300, heartbeat_seconds=300, lease_seconds=900
        ):
            time.sleep(2)  # its own first looks are over
            job = fleet.ask(bell=PollingBell())
            took = fleet.wait(lambda: fleet.count([job], "succeeded"), 20)
        assert took < 10
