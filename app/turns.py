"""Whose turn it is: owners in rotation, oldest job first, and warm references to who has them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select, text
from sqlalchemy.orm import Session

from app.columns import epoch_now
from app.tables import Job, JobKind, Query, QueryMapping, ReferenceVersion, Turn, Worker

RECENT_SECONDS = 15
"""A worker that was silent for longer is not waited for."""
_CLAIM_LOCK = 0x7475726E  # any number, the same in every process
_TAKE_TURN = text(
    "INSERT INTO turns (owner, lane, taken_at) VALUES (:owner, :lane, :now) "
    "ON CONFLICT (owner, lane) DO UPDATE SET taken_at = excluded.taken_at"
)


def claimable(kinds: Collection[str], only: Collection[str] | None = None) -> Select[str]:
    """The ids of jobs that may start."""
    ready = select(Query.id).where(Query.state == "ready")
    found = select(Job.id).where(
        Job.state == "queued",
        Job.kind.in_(kinds),
        Job.waits_for == 0,
        or_(Job.needs_query_id.is_(None), Job.needs_query_id.in_(ready)),
    )
    return found if only is None else found.where(Job.id.in_(only))


def in_turn(jobs: Select[str]) -> Select[str]:
    """The same jobs: first of the owner whose last turn is longest ago, and of his the oldest.

    A thousand jobs of one owner so delay another's by one job, whoever asked first.
    """
    turns = jobs.outerjoin(Turn, _turn_of_job())
    return turns.order_by(func.coalesce(Turn.taken_at, 0.0), Job.created_at, Job.id)


def one_at_a_time(session: Session) -> None:
    """Let claims in one by one: those that see the same turns would all serve the same owner.

    SQLite has one writer anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_CLAIM_LOCK)))


def take_turn(session: Session, owner: str, kind: JobKind) -> None:
    """Remember that this owner was served; does not commit."""
    now = session.scalar(select(epoch_now()))
    lane = "check" if kind == "check" else "compute"
    session.execute(_TAKE_TURN, {"owner": owner, "lane": lane, "now": now})


def leave_to_warm(session: Session, jobs: Select[str], worker: str) -> Select[str]:
    """The same jobs, but for mappings whose reference another, idle worker has loaded."""
    warm = _warm_elsewhere(session, worker)
    if not warm:
        return jobs
    version = ReferenceVersion.id == QueryMapping.reference_version_id
    left = (
        select(QueryMapping.job_id)
        .join(ReferenceVersion, version)
        .where(ReferenceVersion.manifest_sha256.in_(warm))
    )
    return jobs.where(Job.id.not_in(left))


def _warm_elsewhere(session: Session, worker: str) -> set[str]:
    """Digests of references that idle workers have loaded, and this one has not."""
    computing = Job.state == "running", Job.kind != "check", Job.worker.is_not(None)
    busy = select(Job.worker).where(*computing)
    recent = Worker.seen_at > epoch_now() - RECENT_SECONDS
    rows = session.execute(
        select(Worker.name, Worker.warm).where(recent, Worker.name.not_in(busy))
    ).all()
    mine = {digest for name, warm in rows if name == worker for digest in warm or ()}
    return {digest for name, warm in rows if name != worker for digest in warm or ()} - mine


def waiting(session: Session) -> list[tuple[str, JobKind]]:
    """One job of each kind that could start, if somebody looked: what to ring for again."""
    kinds: tuple[JobKind, ...] = ("check", "map", "shard", "rank", "build")
    rows = session.execute(
        select(func.min(Job.id), Job.kind).where(Job.id.in_(claimable(kinds))).group_by(Job.kind)
    )
    return [(job_id, kind) for job_id, kind in rows]


def queue_position(session: Session, job: Job) -> int:
    """How many turns until this mapping or build is picked up; 1: it is the next."""
    queued = [Job.state == "queued", Job.kind != "check", Job.waits_for == 0]
    before = or_(
        Job.created_at < job.created_at, and_(Job.created_at == job.created_at, Job.id < job.id)
    )
    mine_before = select(func.count()).where(*queued, Job.owner == job.owner, before)
    rounds = session.scalar(mine_before) or 0
    last_turn = func.coalesce(func.max(Turn.taken_at), 0.0)
    owners = session.execute(
        select(Job.owner, func.count(), last_turn, func.min(Job.created_at))
        .outerjoin(Turn, _turn_of_job())
        .where(*queued)
        .group_by(Job.owner)
    ).all()
    turns = {owner: (taken_at, oldest) for owner, _, taken_at, oldest in owners}
    my_turn = turns.get(job.owner, (0.0, job.created_at))  # it may have been claimed meanwhile
    ahead = sum(
        min(count, rounds + (turns[owner] < my_turn))
        for owner, count, _, _ in owners
        if owner != job.owner
    )
    return rounds + ahead + 1


def _turn_of_job() -> ColumnElement[bool]:
    """Checks have a process of their own in every worker, and take turns of their own."""
    lane = case((Job.kind == "check", "check"), else_="compute")
    return and_(Turn.owner == Job.owner, Turn.lane == lane)
