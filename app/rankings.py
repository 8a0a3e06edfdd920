"""Ranking the hosted references for a query: asking, recording, finding and forgetting."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.bell import Bell
from app.jobs import Claim
from app.keys import Principal
from app.moves import TERMINAL_STATES, enqueue, fenced, lock_job, move_job, record_event
from app.ownership import find_query, hold_query
from app.problems import UnknownRanking
from app.references import list_versions
from app.tables import Job, Query, Ranking, ReferenceVersion, new_id
from app.visibility import hidden_names


def submit_ranking(
    session: Session, bell: Bell, *, caller: Principal, query_id: str, max_attempts: int
) -> tuple[Ranking, Job]:
    """Rank what the caller sees; a ranking that has ended makes room, one under way is the answer.

    The job waits while the query is still being checked, and fails with its problem.
    """
    find_query(session, owner=caller.owner, query_id=query_id)
    # Two that ask at once would both find no ranking: they come here one at a time. The lock is
    # taken whole at first, because two that hold half of it would wait for each other.
    session.get(Query, query_id, with_for_update=True, populate_existing=True)
    hold_query(session, owner=caller.owner, query_id=query_id)
    earlier = _ranking_of(session, query_id)
    if earlier is not None:
        job = lock_job(session, earlier.job_id)
        if job is not None and job.state not in TERMINAL_STATES:
            session.commit()
            return earlier, job
        _forget(session, earlier, job)
    ranking_id = new_id()
    job = enqueue(
        session,
        kind="rank",
        subject_id=ranking_id,
        owner=caller.owner,
        needs_query_id=query_id,
        max_attempts=max_attempts,
    )
    ranking = Ranking(
        id=ranking_id,
        owner=caller.owner,
        query_id=query_id,
        job_id=job.id,
        version_ids=[version.id for version in newest_ready(session, caller)],
    )
    session.add(ranking)
    session.commit()
    bell.ring(job.id, "rank")
    return ranking, job


def newest_ready(session: Session, caller: Principal) -> list[ReferenceVersion]:
    """Of each reference that the caller sees, the version that a mapping would take."""
    ready = [v for v in list_versions(session, caller=caller) if v.state == "ready"]
    return list({version.name: version for version in ready}.values())


def record_ranking(session: Session, claim: Claim, *, items: list[dict[str, Any]]) -> bool:
    """Publish what was found with the job's end."""
    held = [*fenced(claim), Job.state == "running"]
    job = move_job(session, held, "succeeded", progress=1.0, stage=None)
    if job is not None:
        session.get_one(Ranking, claim.subject_id).items = items
    session.commit()
    return job is not None


def find_ranking(session: Session, *, owner: str, query_id: str) -> tuple[Query, Ranking, Job]:
    query = find_query(session, owner=owner, query_id=query_id)
    ranking = _ranking_of(session, query_id)
    job = None if ranking is None else session.get(Job, ranking.job_id)
    if ranking is None or job is None:
        raise UnknownRanking(
            f"The references have not been ranked for query {query_id!r}.",
            fix=f"POST /v1/queries/{query_id}/ranking asks for it.",
        )
    return query, ranking, job


def ranked_versions(
    session: Session, ranking: Ranking, caller: Principal
) -> list[ReferenceVersion]:
    """Those that can still be mapped onto, and that the caller still sees."""
    found = select(ReferenceVersion).where(
        ReferenceVersion.id.in_(ranking.version_ids), ReferenceVersion.state == "ready"
    )
    hidden = hidden_names(session, caller)
    return [version for version in session.scalars(found) if version.name not in hidden]


def delete_ranking(session: Session, *, owner: str, query_id: str) -> None:
    """Forget a ranking in whatever state. A worker in the middle of it loses its claim."""
    find_ranking(session, owner=owner, query_id=query_id)
    delete_ranking_of(session, query_id)
    session.commit()


def delete_ranking_of(session: Session, query_id: str) -> None:
    """`delete_ranking` without the commit, where there may be none."""
    ranking = _ranking_of(session, query_id)
    if ranking is not None:
        _forget(session, ranking, lock_job(session, ranking.job_id))


def _forget(session: Session, ranking: Ranking, job: Job | None) -> None:
    if job is None:  # another request has just deleted it
        return
    record_event(session, job, "rank.deleted")
    session.delete(ranking)
    session.flush()
    session.delete(job)
    session.flush()


def _ranking_of(session: Session, query_id: str) -> Ranking | None:
    found = select(Ranking).where(Ranking.query_id == query_id)
    return session.scalars(found.execution_options(populate_existing=True)).one_or_none()
