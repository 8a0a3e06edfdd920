"""Uploaded queries: taking one in, accepting, finding and deleting it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.bell import Bell
from app.jobs import Claim
from app.mappings import delete_rows as delete_mapping_rows
from app.mappings import mapping_prefix
from app.moves import enqueue, fenced, move_job, move_query, record_event
from app.ownership import lock_query
from app.pages import Page, page_of
from app.parts import StagedPart, joint_digest, joint_name, store_parts
from app.problems import QueryHasMappings, QueryInUse
from app.rankings import delete_ranking_of
from app.staging import StagedFile
from app.storage import Storage
from app.tables import Job, Query, QueryMapping, ReferenceVersion, new_id


def create_query(
    session: Session,
    bell: Bell,
    *,
    owner: str,
    staged: StagedFile,
    others: Sequence[StagedPart] = (),
    storage: Storage,
    filename: str,
    options: Mapping[str, Any],
    external_id: str | None = None,
    tags: Sequence[str] = (),
    max_attempts: int,
    inspect_only: bool = False,
) -> Query:
    """Keep the bytes, then the row and the job that checks them. Returns when both are durable.

    `others` are further files of the same query, after the first.
    """
    query = store_query(
        session,
        owner=owner,
        staged=staged,
        others=others,
        storage=storage,
        filename=filename,
        options=options,
        external_id=external_id,
        tags=tags,
        max_attempts=max_attempts,
        inspect_only=inspect_only,
    )
    session.commit()
    bell.ring(query.job_id, "check")
    return query


def store_query(
    session: Session,
    *,
    owner: str,
    staged: StagedFile,
    others: Sequence[StagedPart] = (),
    storage: Storage,
    filename: str,
    options: Mapping[str, Any],
    external_id: str | None,
    tags: Sequence[str],
    max_attempts: int,
    inspect_only: bool = False,
) -> Query:
    """`create_query` without the commit, to share a transaction with a mapping."""
    query_id = new_id()
    with removed_on_failure(storage, query_prefix(query_id)):
        # The bytes first: a crash in between leaves an orphan, never a row without its file.
        # Nothing was asked of the session so far, so no other writer waits for these fsyncs.
        sent = [StagedPart(staged, filename), *others]
        parts = store_parts(storage, query_prefix(query_id), sent)
        job = enqueue(
            session, kind="check", subject_id=query_id, owner=owner, max_attempts=max_attempts
        )
        query = Query(
            id=query_id,
            owner=owner,
            state="checking",
            filename=joint_name(parts),
            bytes=sum(part.bytes for part in parts),
            sha256=joint_digest(parts),
            storage_key=parts[0].key,
            parts=[part.as_dict() for part in parts] if others else None,
            keeps_upload=options.get("obs_policy", "all") == "all",
            options=dict(options),
            external_id=external_id,
            tags=list(tags),
            inspect_only=inspect_only,
            job_id=job.id,
        )
        session.add(query)
        session.flush()
        return query


@contextmanager
def removed_on_failure(storage: Storage, prefix: str) -> Iterator[None]:
    """Nobody will ever point at bytes whose row was not written.

    Not to be put around a commit: one that fails may have happened all the same, and then its
    bytes must be there. What that leaves in the store at worst is an orphan for `fsck`.
    """
    try:
        yield
    except BaseException:
        storage.delete(prefix)
        raise


def query_prefix(query_id: str) -> str:
    """The folder of everything that belongs to a query."""
    return f"queries/{query_id}"


def accept_query(
    session: Session, claim: Claim, *, canonical_prefix: str, inspection: dict[str, Any]
) -> bool:
    """The check is done and the canonical query is in the store."""
    job = move_job(session, [*fenced(claim), Job.state == "running"], "succeeded", progress=1.0)
    held = job is not None and move_query(
        session,
        claim.subject_id,
        "ready",
        canonical_prefix=canonical_prefix,
        inspection=inspection,
    )
    session.commit()
    return held


def list_queries(
    session: Session,
    *,
    owner: str,
    limit: int,
    cursor: str | None = None,
    external_id: str | None = None,
    tags: Sequence[str] = (),
) -> Page[Query]:
    mine = select(Query).where(Query.owner == owner, ~Query.inspect_only)
    return page_of(
        session, mine, Query, limit=limit, cursor=cursor, external_id=external_id, tags=tags
    )


def delete_query(
    session: Session, *, owner: str, query_id: str, cascade: bool = False
) -> list[str]:
    """Forget a query; returns the prefixes of the bytes to remove once the rows are gone."""
    query = lock_query(session, owner=owner, query_id=query_id)
    building = session.scalar(
        select(func.count()).where(
            ReferenceVersion.query_id == query.id, ReferenceVersion.state == "building"
        )
    )
    if building:
        raise QueryInUse(
            f"A reference is being built from query {query_id}.", fix="Delete it afterwards."
        )
    mappings = session.scalars(select(QueryMapping).where(QueryMapping.query_id == query.id)).all()
    if mappings and not cascade:
        raise QueryHasMappings(
            f"Query {query_id} has {len(mappings)} mappings.",
            fix="Delete them first, or delete all at once with ?cascade=true.",
            mappings=[mapping.id for mapping in mappings],
        )
    prefixes = [
        mapping_prefix(mapping.id) for mapping in mappings if delete_mapping_rows(session, mapping)
    ]
    delete_ranking_of(session, query_id)
    job = session.get_one(Job, query.job_id)
    record_event(session, job, "check.deleted")
    session.delete(query)
    session.flush()
    session.delete(job)
    session.commit()
    return [*prefixes, query_prefix(query_id)]
