"""Moves of jobs and of what they work on: inner steps of use-cases, which commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy import ColumnElement, CursorResult, select, update
from sqlalchemy.orm import Session

from app.columns import utc_now
from app.tables import (
    JOB_MOVES,
    QUERY_MOVES,
    VERSION_MOVES,
    Event,
    Job,
    JobKind,
    JobState,
    Query,
    QueryState,
    ReferenceVersion,
    VersionState,
)

TERMINAL_STATES = frozenset(state for state, onward in JOB_MOVES.items() if not onward)


class Fence(Protocol):
    """What a worker holds of a job: writes with an older attempt do nothing."""

    @property
    def job_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def worker(self) -> str: ...


def enqueue(
    session: Session,
    *,
    kind: JobKind,
    subject_id: str,
    owner: str,
    max_attempts: int,
    needs_query_id: str | None = None,
) -> Job:
    job = Job(
        kind=kind,
        subject_id=subject_id,
        owner=owner,
        needs_query_id=needs_query_id,
        max_attempts=max_attempts,
        state="queued",
    )
    session.add(job)
    session.flush()
    record_event(session, job, f"{kind}.queued")
    return job


def record_event(session: Session, job: Job, kind: str, **data: Any) -> None:
    session.add(
        Event(kind=kind, owner=job.owner, job_id=job.id, subject_id=job.subject_id, data=data)
    )


def lock_job(session: Session, job_id: str) -> Job | None:
    """The job as it is now, and nobody else changes it until the commit.

    Whoever changes a job and its subject takes the job's row first, as a worker does: two that
    take the same locks in another order can wait for each other.
    """
    return session.get(Job, job_id, with_for_update=True, populate_existing=True)


def fenced(fence: Fence) -> list[ColumnElement[bool]]:
    return [Job.id == fence.job_id, Job.attempt == fence.attempt, Job.worker == fence.worker]


def change_job(
    session: Session, where: list[ColumnElement[bool]], values: Mapping[str, Any]
) -> bool:
    """Update one job if it still is what `where` says."""
    return changed(
        session,
        update(Job).where(*where).values(updated_at=utc_now(), **values),
    )


def changed(session: Session, statement: Any) -> bool:
    """Run an update of at most one row; whether the row was there as expected."""
    result = session.execute(statement.execution_options(synchronize_session=False))
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def move_job(
    session: Session, where: list[ColumnElement[bool]], to: JobState, **values: Any
) -> Job | None:
    """Move one job to a state if its present state allows it, and note the event.

    None: the job was not as `where` says, and nothing has changed.
    """
    allowed = [state for state, onward in JOB_MOVES.items() if to in onward]
    job_id = session.scalar(select(Job.id).where(*where, Job.state.in_(allowed)))
    if job_id is None:
        return None
    if to in TERMINAL_STATES:
        values = {"finished_at": utc_now(), "lease_until": None, **values}
    moved = change_job(
        session,
        [*where, Job.id == job_id, Job.state.in_(allowed)],
        {"state": to, "revision": Job.revision + 1, **values},
    )
    if not moved:
        return None
    job = session.get_one(Job, job_id, populate_existing=True)
    note = {"problem": job.problem["type"]} if job.problem else {}
    record_event(session, job, f"{job.kind}.{to}", attempt=job.attempt, **note)
    return job


def move_query(session: Session, query_id: str, to: QueryState, **values: Any) -> bool:
    allowed = [state for state, onward in QUERY_MOVES.items() if to in onward]
    return changed(
        session,
        update(Query)
        .where(Query.id == query_id, Query.state.in_(allowed))
        .values(state=to, updated_at=utc_now(), **values),
    )


def note_inspection(session: Session, query_id: str, inspection: Mapping[str, Any]) -> bool:
    """Keep what was found of a file that is refused."""
    where = Query.id == query_id
    return changed(session, update(Query).where(where).values(inspection=dict(inspection)))


def move_version(session: Session, version_id: str, to: VersionState, **values: Any) -> bool:
    allowed = [state for state, onward in VERSION_MOVES.items() if to in onward]
    return changed(
        session,
        update(ReferenceVersion)
        .where(ReferenceVersion.id == version_id, ReferenceVersion.state.in_(allowed))
        .values(state=to, updated_at=utc_now(), **values),
    )


def finish_failed(
    session: Session, where: list[ColumnElement[bool]], problem: Mapping[str, Any]
) -> bool:
    """Fail one job, and with it what it worked on and what waited for that."""
    job = move_job(session, where, "failed", problem=dict(problem))
    if job is None:
        return False
    fail_subject(session, job, problem)
    return True


def fail_subject(session: Session, job: Job, problem: Mapping[str, Any]) -> None:
    stored = dict(problem)
    if job.kind == "build":
        move_version(session, job.subject_id, "failed", problem=stored)
    if job.kind != "check":
        return
    move_query(session, job.subject_id, "rejected", problem=stored)
    waiting = session.scalars(
        select(Job.id).where(Job.needs_query_id == job.subject_id, Job.state == "queued")
    )
    for waiting_id in waiting.all():
        finish_failed(session, [Job.id == waiting_id], problem)
