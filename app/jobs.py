"""The job queue as a worker sees it: claim, heartbeat, give back; and the reaper.

A claim is a conditional UPDATE, and every later write names the attempt and the worker, so that
a late or doubled worker changes nothing. Leases run by the database's clock.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Select, and_, select
from sqlalchemy.orm import Session

from app.columns import epoch_now, utc_now
from app.moves import (
    change_job,
    fenced,
    finish_failed,
    move_job,
    move_version,
    note_inspection,
)
from app.problems import Problem, WorkerLost
from app.tables import Job, JobKind
from app.turns import claimable, in_turn, leave_to_warm, one_at_a_time, take_turn
from app.workers import note_worker


@dataclass(frozen=True)
class Claim:
    """A worker's hold on one attempt of a job."""

    job_id: str
    kind: JobKind
    subject_id: str
    attempt: int
    worker: str
    cancel_requested: bool = False


def something_waits(
    session: Session,
    *,
    worker: str,
    kinds: Collection[str],
    only: Collection[str] | None = None,
    patient: bool = True,
) -> bool:
    """Whether `claim_next` would find a job: a look that takes no lock."""
    found = _offered(session, worker, kinds, only, patient)
    return session.scalar(found.limit(1)) is not None


def _offered(
    session: Session,
    worker: str,
    kinds: Collection[str],
    only: Collection[str] | None,
    patient: bool,
) -> Select[str]:
    jobs = claimable(kinds, only)
    return leave_to_warm(session, jobs, worker) if patient and "map" in kinds else jobs


def claim_next(
    session: Session,
    *,
    worker: str,
    kinds: Collection[str],
    lease_seconds: float,
    only: Collection[str] | None = None,
    patient: bool = True,
) -> Claim | None:
    """Take the job whose turn it is. `only` restricts the choice to these job ids.

    `patient`: leave mappings to idle workers that have loaded their reference.
    """
    note_worker(session, worker)
    one_at_a_time(session)
    next_one = in_turn(_offered(session, worker, kinds, only, patient)).limit(1)
    job_id = session.scalar(next_one.with_for_update(skip_locked=True, of=Job))
    job = None
    if job_id is not None:
        job = move_job(
            session,
            [Job.id == job_id],
            "running",
            attempt=Job.attempt + 1,
            worker=worker,
            lease_until=epoch_now() + lease_seconds,
            heartbeat_at=epoch_now(),
            progress_at=epoch_now(),
            progress=0.0,
            stage=None,
            started_at=utc_now(),
        )
    if job is not None:
        take_turn(session, job.owner, job.kind)
    session.commit()
    return None if job is None else _claim_of(job)


def heartbeat(
    session: Session,
    claim: Claim,
    *,
    lease_seconds: float,
    stage: str | None = None,
    progress: float | None = None,
) -> Literal["held", "cancel", "lost"]:
    """Prolong the lease. `lost`: somebody else has the job, or it is gone; stop and write nothing.

    `stage` and `progress` are told only when they changed: they say when the job last moved on.
    """
    note_worker(session, claim.worker)
    values: dict[str, object] = {
        "lease_until": epoch_now() + lease_seconds,
        "heartbeat_at": epoch_now(),
    }
    if stage is not None:
        values["stage"] = stage
    if progress is not None:
        values["progress"] = min(max(progress, 0.0), 1.0)
    if len(values) > 2:
        values |= {"progress_at": epoch_now(), "revision": Job.revision + 1}
    where = [*fenced(claim), Job.state == "running"]
    held = change_job(session, where, values)
    cancelled = held and session.scalar(select(Job.cancel_requested).where(Job.id == claim.job_id))
    session.commit()
    if not held:
        return "lost"
    return "cancel" if cancelled else "held"


def fail_job(session: Session, claim: Claim, problem: Problem) -> bool:
    """Record the failure, once; a failed check also rejects the query and fails what waits."""
    held = finish_failed(session, [*fenced(claim), Job.state == "running"], problem.as_dict())
    if held and problem.inspection is not None:
        note_inspection(session, claim.subject_id, problem.inspection)
    session.commit()
    return held


def cancel_job(session: Session, claim: Claim) -> bool:
    """The worker has stopped because it was asked to."""
    held = _cancel(session, claim)
    session.commit()
    return held


def release_job(session: Session, claim: Claim, *, blameless: bool = False) -> bool:
    """Give an unfinished job back. After the last attempt it fails instead.

    `blameless`: the worker was told to stop, so this attempt does not count.
    """
    where = [*fenced(claim), Job.state == "running"]
    if blameless:
        change_job(session, where, {"max_attempts": Job.max_attempts + 1})
    job = session.scalars(
        select(Job).where(*where).execution_options(populate_existing=True)
    ).one_or_none()
    held = job is not None and _give_back(session, job)
    session.commit()
    return held


def reap(session: Session, *, stall_seconds: float | None = None) -> int:
    """Give back every running job whose worker let its lease run out; how many.

    `stall_seconds`: likewise those that have not moved on for so long, though their worker says
    that it lives. Checks have a time limit of their own.
    """
    gone = Job.lease_until < epoch_now()
    if stall_seconds is not None:
        gone |= and_(Job.kind != "check", Job.progress_at < epoch_now() - stall_seconds)
    lost = session.scalars(
        select(Job).where(Job.state == "running", gone).with_for_update(skip_locked=True)
    ).all()
    reaped = sum(_give_back(session, job) for job in lost)
    session.commit()
    return reaped


def _claim_of(job: Job) -> Claim:
    assert job.worker is not None
    return Claim(
        job_id=job.id,
        kind=job.kind,
        subject_id=job.subject_id,
        attempt=job.attempt,
        worker=job.worker,
        cancel_requested=job.cancel_requested,
    )


def _cancel(session: Session, claim: Claim) -> bool:
    job = move_job(session, [*fenced(claim), Job.state == "running"], "cancelled", stage=None)
    if job is not None and job.kind == "build":
        move_version(session, job.subject_id, "failed")
    return job is not None


def _give_back(session: Session, job: Job) -> bool:
    claim = _claim_of(job)
    where = [*fenced(claim), Job.state == "running"]
    if job.cancel_requested:
        return _cancel(session, claim)
    if job.attempt >= job.max_attempts:
        lost = WorkerLost(
            f"The worker was lost or stood still {job.attempt} times while it worked on this job.",
            fix="Send the request again; if it happens again, tell the service's administrator.",
            attempts=job.attempt,
        )
        return finish_failed(session, where, lost.as_dict())
    requeued = move_job(
        session, where, "queued", worker=None, lease_until=None, progress=0.0, stage=None
    )
    return requeued is not None
