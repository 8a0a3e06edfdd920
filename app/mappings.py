"""Mappings: asking for one, recording its results, finding, cancelling and deleting it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.aliases import resolve
from app.bell import Bell
from app.idempotency import commit_with_key, find_earlier, forget_keys
from app.jobs import Claim
from app.keys import Principal, any_key_of
from app.mapping_requests import MappingRequest as MappingRequest
from app.moves import (
    TERMINAL_STATES,
    change_job,
    enqueue,
    fenced,
    lock_job,
    move_job,
    record_event,
)
from app.ownership import hold_query
from app.pages import Page, page_of
from app.problems import AlreadyFinished, IdempotencyKeyInProgress, Problem, UnknownMapping
from app.references import hold_usable_version
from app.shards import delete_shards, end_shards
from app.standing import warnings_about
from app.tables import Job, QueryMapping, ReferenceVersion, new_id
from app.turns import queue_position

Row = TypeVar("Row", Job, ReferenceVersion)


@dataclass(frozen=True)
class MappingView:
    """A mapping with what an answer about it needs."""

    mapping: QueryMapping
    job: Job
    version: ReferenceVersion
    queue_position: int | None
    """1: the next to be picked up; None once it is running or finished."""
    warnings: list[dict[str, Any]]
    """What has become of the reference version, for whoever reads the answer."""


def submit_mapping(
    session: Session,
    bell: Bell,
    *,
    owner: str,
    request: MappingRequest,
    max_attempts: int,
    idempotency_key: str | None = None,
    caller: Principal | None = None,
) -> tuple[QueryMapping, bool]:
    """Record the mapping and its job. True: the same request came before, and this is its answer.

    The job waits while the query is still being checked, and fails with its problem.
    """
    earlier = _find_earlier(session, owner, idempotency_key, request)
    if earlier is not None:
        return earlier, True
    mapping = store_mapping(
        session, owner=owner, request=request, max_attempts=max_attempts, caller=caller
    )
    try:
        commit_with_key(
            session,
            owner=owner,
            key=idempotency_key,
            request=asdict(request),
            mapping_id=mapping.id,
        )
    except IdempotencyKeyInProgress:
        # The other request is answered by now, as a rule: its answer is this one's too.
        earlier = _find_earlier(session, owner, idempotency_key, request)
        if earlier is None:
            raise
        return earlier, True
    bell.ring(mapping.job_id, "map")
    return mapping, False


def _find_earlier(
    session: Session, owner: str, key: str | None, request: MappingRequest
) -> QueryMapping | None:
    earlier = find_earlier(session, owner=owner, key=key, request=asdict(request))
    return None if earlier is None else find_mapping(session, owner=owner, mapping_id=earlier)


def store_mapping(
    session: Session,
    *,
    owner: str,
    request: MappingRequest,
    max_attempts: int,
    caller: Principal | None = None,
) -> QueryMapping:
    """`submit_mapping` without the commit. An owner alone sees no more than any key of theirs."""
    caller = caller or any_key_of(owner)
    query = hold_query(session, owner=owner, query_id=request.query)
    asked = resolve(session, request.reference, request.version, caller=caller)
    version = hold_usable_version(session, asked.name, asked.version, caller=caller)
    mapping_id = new_id()
    job = enqueue(
        session,
        kind="map",
        subject_id=mapping_id,
        owner=owner,
        needs_query_id=query.id,
        max_attempts=max_attempts,
    )
    mapping = QueryMapping(
        id=mapping_id,
        owner=owner,
        query_id=query.id,
        reference_version_id=version.id,
        reference_alias=asked.alias,
        job_id=job.id,
        options=request.options(),
        external_id=request.external_id,
        tags=list(request.tags),
    )
    session.add(mapping)
    session.flush()
    return mapping


def record_results(
    session: Session,
    claim: Claim,
    *,
    results_prefix: str,
    results: list[dict[str, Any]],
    summary: dict[str, Any],
) -> bool:
    """The files are in the store under this attempt's prefix: publish them with the row."""
    job = move_job(
        session,
        [*fenced(claim), Job.state == "running"],
        "succeeded",
        progress=1.0,
        stage=None,
    )
    if job is not None:
        mapping = session.get_one(QueryMapping, claim.subject_id)
        mapping.results, mapping.results_prefix = results, results_prefix
        mapping.summary = summary
    session.commit()
    return job is not None


def find_mapping(session: Session, *, owner: str, mapping_id: str) -> QueryMapping:
    mapping = session.get(QueryMapping, mapping_id)
    if mapping is None or mapping.owner != owner:
        raise _unknown(mapping_id)
    return mapping


def view_mapping(session: Session, mapping: QueryMapping) -> MappingView:
    (view,) = view_mappings(session, [mapping])
    return view


def view_mappings(session: Session, mappings: Sequence[QueryMapping]) -> list[MappingView]:
    """Of one owner; jobs and versions are read at once, and warnings made once a version."""
    jobs = _by_id(session, Job, {mapping.job_id for mapping in mappings})
    wanted = {mapping.reference_version_id for mapping in mappings}
    versions = _by_id(session, ReferenceVersion, wanted)
    owners = {mapping.reference_version_id: mapping.owner for mapping in mappings}
    warnings = {
        version_id: warnings_about(session, versions[version_id], any_key_of(owner))
        for version_id, owner in owners.items()
    }
    return [
        MappingView(
            mapping,
            jobs[mapping.job_id],
            version=versions[mapping.reference_version_id],
            queue_position=_position(session, jobs[mapping.job_id]),
            warnings=warnings[mapping.reference_version_id],
        )
        for mapping in mappings
    ]


def _by_id(session: Session, table: type[Row], ids: set[str]) -> dict[str, Row]:
    rows = session.scalars(select(table).where(table.id.in_(ids)))
    return {row.id: row for row in rows}


def _position(session: Session, job: Job) -> int | None:
    may_start = job.state == "queued" and job.waits_for == 0
    return queue_position(session, job) if may_start else None


def list_mappings(
    session: Session,
    *,
    owner: str,
    limit: int,
    cursor: str | None = None,
    query_id: str | None = None,
    external_id: str | None = None,
    tags: Sequence[str] = (),
) -> Page[QueryMapping]:
    mine = select(QueryMapping).where(QueryMapping.owner == owner)
    if query_id is not None:
        mine = mine.where(QueryMapping.query_id == query_id)
    return page_of(
        session, mine, QueryMapping, limit=limit, cursor=cursor, external_id=external_id, tags=tags
    )


def cancel_mapping(session: Session, *, owner: str, mapping_id: str) -> QueryMapping:
    """A queued mapping is cancelled at once; a running one is told, and stops within a step."""
    mapping = find_mapping(session, owner=owner, mapping_id=mapping_id)
    if lock_job(session, mapping.job_id) is None:
        raise _unknown(mapping_id)
    this = Job.id == mapping.job_id
    end_shards(session, mapping_id)
    if not move_job(session, [this, Job.state == "queued"], "cancelled", cancel_requested=True):
        asked = {"cancel_requested": True, "revision": Job.revision + 1}
        running = [this, Job.state == "running", Job.cancel_requested.is_(False)]
        if change_job(session, running, asked):
            record_event(session, session.get_one(Job, mapping.job_id), "map.cancel-requested")
    job = session.get_one(Job, mapping.job_id, populate_existing=True)
    if job.state in TERMINAL_STATES - {"cancelled"}:
        raise AlreadyFinished(
            f"Mapping {mapping_id} has already {job.state}.",
            fix="There is nothing left to cancel; DELETE removes the mapping and its results.",
            state=job.state,
        )
    session.commit()
    return mapping


def delete_mapping(session: Session, *, owner: str, mapping_id: str) -> str:
    """Forget a mapping in whatever state; returns the prefix of the bytes to remove.

    A worker in the middle of it loses its claim with the row: its next heartbeat says so, and
    what it writes later is fenced off.
    """
    mapping = find_mapping(session, owner=owner, mapping_id=mapping_id)
    if not delete_rows(session, mapping):
        raise _unknown(mapping_id)
    session.commit()
    return mapping_prefix(mapping_id)


def delete_rows(session: Session, mapping: QueryMapping) -> bool:
    """`delete_mapping` without the commit. False: another request has just deleted it."""
    job = lock_job(session, mapping.job_id)
    if job is None:
        return False
    record_event(session, job, "map.deleted")
    forget_keys(session, mapping.id)
    delete_shards(session, mapping.id)
    session.delete(mapping)
    session.flush()
    session.delete(job)
    return True


def mapping_prefix(mapping_id: str) -> str:
    """The folder of everything that belongs to a mapping."""
    return f"mappings/{mapping_id}"


def _unknown(mapping_id: str) -> Problem:
    return UnknownMapping(
        f"There is no mapping {mapping_id!r}.",
        fix="Check the id; GET /v1/mappings lists the mappings that you asked for.",
    )
