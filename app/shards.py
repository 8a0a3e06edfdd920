"""Shards of a large query: a mapping is split, its shards are read by any worker, it goes on.

Whoever changes a mapping's job and those of its shards takes the mapping's first, so that no two
wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from app.jobs import Claim
from app.moves import (
    TERMINAL_STATES,
    change_job,
    enqueue,
    fenced,
    finish_failed,
    lock_job,
    move_job,
)
from app.tables import Job, QueryMapping, Shard, new_id

READING = "reading"
READ_PROGRESS = 0.15
"""How far a mapping is when all its cells have been read."""


def split_mapping(session: Session, claim: Claim, ranges: Sequence[tuple[int, int]]) -> bool:
    """The mapping goes back to the queue until shards of these cells have been read.

    That is no attempt. False: it was cancelled, or is not this worker's any more.
    """
    held = [*fenced(claim), Job.state == "running", Job.cancel_requested.is_(False)]
    mapping_job = move_job(
        session,
        held,
        "queued",
        worker=None,
        lease_until=None,
        stage=READING,
        waits_for=len(ranges),
        max_attempts=Job.max_attempts + 1,
    )
    if mapping_job is not None:
        for start, stop in ranges:
            _add_shard(session, claim.subject_id, mapping_job, start, stop)
    session.commit()
    return mapping_job is not None


def _add_shard(session: Session, mapping_id: str, mapping_job: Job, start: int, stop: int) -> None:
    shard_id = new_id()
    job = enqueue(
        session,
        kind="shard",
        subject_id=shard_id,
        owner=mapping_job.owner,
        max_attempts=mapping_job.max_attempts - 1,
    )
    job.created_at = mapping_job.created_at  # it has its mapping's place in the queue
    shard = Shard(id=shard_id, mapping_id=mapping_id, job_id=job.id, start=start, stop=stop)
    session.add(shard)
    session.flush()


def record_shard(session: Session, claim: Claim, *, prefix: str) -> bool:
    """The shard's files are in the store: publish them with the row, and move the mapping on.

    False: another attempt has the shard, or the mapping has ended and nobody needs it.
    """
    shard = session.get(Shard, claim.subject_id)
    mapping = shard and session.get(QueryMapping, shard.mapping_id)
    if shard is None or mapping is None:  # deleted meanwhile
        return False
    mapping_job = lock_job(session, mapping.job_id)
    held = [*fenced(claim), Job.state == "running"]
    if mapping_job is None or mapping_job.state in TERMINAL_STATES:
        move_job(session, held, "cancelled", stage=None)
        session.commit()
        return False
    job = move_job(session, held, "succeeded", progress=1.0, stage=None)
    if job is not None:
        shard.prefix = prefix
        _move_on(session, mapping_job, mapping.id)
    session.commit()
    return job is not None


def _move_on(session: Session, mapping_job: Job, mapping_id: str) -> None:
    shards = session.scalar(select(func.count()).where(Shard.mapping_id == mapping_id)) or 1
    left = mapping_job.waits_for - 1
    values: dict[str, Any] = {"waits_for": left, "revision": Job.revision + 1}
    if mapping_job.state == "queued":
        values["progress"] = READ_PROGRESS * (1 - left / shards)
    change_job(session, [Job.id == mapping_job.id], values)


def fail_torn_mappings(session: Session) -> int:
    """Fail each mapping one of whose shards has failed, for that shard's reason; how many."""
    waiting = aliased(Job)
    torn = session.execute(
        select(Shard.mapping_id, waiting.id, Job.problem)
        .join(Job, Job.id == Shard.job_id)
        .join(QueryMapping, QueryMapping.id == Shard.mapping_id)
        .join(waiting, waiting.id == QueryMapping.job_id)
        .where(Job.state == "failed", waiting.state == "queued")
        .order_by(waiting.id)
    ).all()
    failed = 0
    for mapping_id, job_id, problem in torn:
        lock_job(session, job_id)
        failed += finish_failed(session, [Job.id == job_id, Job.state == "queued"], problem or {})
        end_shards(session, mapping_id)
    session.commit()
    return failed


def end_shards(session: Session, mapping_id: str) -> None:
    """Nobody needs what is not yet read; does not commit. The mapping's job is locked."""
    for job_id in session.scalars(select(Shard.job_id).where(Shard.mapping_id == mapping_id)).all():
        this = Job.id == job_id
        if not move_job(session, [this, Job.state == "queued"], "cancelled", cancel_requested=True):
            change_job(session, [this, Job.state == "running"], {"cancel_requested": True})


def delete_shards(session: Session, mapping_id: str) -> None:
    """Forget the shards of a mapping in whatever state; does not commit."""
    for shard in session.scalars(select(Shard).where(Shard.mapping_id == mapping_id)).all():
        job = lock_job(session, shard.job_id)
        session.delete(shard)
        session.flush()
        session.delete(job)


def spent_shards(session: Session) -> list[str]:
    """Mappings that have ended, and whose shards' files are still in the store."""
    spent = (
        select(Shard.mapping_id)
        .join(QueryMapping, QueryMapping.id == Shard.mapping_id)
        .join(Job, Job.id == QueryMapping.job_id)
        .where(Shard.prefix.is_not(None), Job.state.in_(TERMINAL_STATES))
        .distinct()
    )
    return list(session.scalars(spent))


def forget_files(session: Session, mapping_id: str) -> None:
    """The files of a mapping's shards have been removed."""
    for shard in session.scalars(select(Shard).where(Shard.mapping_id == mapping_id)):
        shard.prefix = None
    session.commit()


def shards_prefix(mapping_id: str) -> str:
    """The folder of all shards of a mapping."""
    return f"mappings/{mapping_id}/shards"
