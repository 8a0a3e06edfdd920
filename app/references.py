"""Reference versions: building, publishing and finding them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.bell import Bell
from app.jobs import Claim
from app.moves import enqueue, fenced, move_job, move_version
from app.problems import (
    MalformedRequest,
    Problem,
    QueryRejected,
    ReferenceExists,
    ReferenceInUse,
    ReferenceNotReady,
    UnknownQuery,
    UnknownReference,
)
from app.tables import Job, Query, QueryMapping, ReferenceVersion, new_id
from models_store.manifest import NAME_PATTERN

LARGEST_NUMBER = 2**63 - 1
"""What a database's integer can hold: a larger number is no version, and no query parameter."""


def version_prefix(name: str, version: int) -> str:
    """The folder of a version in the store."""
    return f"references/{name}/{version}"


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest as compact JSON with sorted keys."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def submit_build(
    session: Session,
    bell: Bell,
    *,
    owner: str,
    name: str,
    query_id: str,
    options: Mapping[str, Any],
    max_attempts: int = 3,
) -> ReferenceVersion:
    """Record the next version of a reference; its build starts when the query is ready."""
    _check_name(name)
    query = session.get(Query, query_id)
    if query is None or query.owner != owner:
        raise UnknownQuery(
            f"There is no query {query_id!r}.", fix="Upload the cells first: PUT /v1/queries."
        )
    if query.state == "rejected":
        raise rejected(query)
    newest = session.scalar(
        select(func.max(ReferenceVersion.version)).where(ReferenceVersion.name == name)
    )
    version_id = new_id()
    job = enqueue(
        session,
        kind="build",
        subject_id=version_id,
        owner=owner,
        needs_query_id=query.id,
        max_attempts=max_attempts,
    )
    version = ReferenceVersion(
        id=version_id,
        owner=owner,
        name=name,
        version=(newest or 0) + 1,
        state="building",
        options=dict(options),
        job_id=job.id,
        query_id=query.id,
    )
    session.add(version)
    _commit_version(session, name)
    bell.ring(job.id)
    return version


def publish_version(session: Session, claim: Claim, *, manifest: dict[str, Any]) -> bool:
    """The build is done and its files are in the store: make the version usable."""
    job = move_job(session, [*fenced(claim), Job.state == "running"], "succeeded", progress=1.0)
    held = job is not None and move_version(
        session,
        claim.subject_id,
        "ready",
        manifest=manifest,
        manifest_sha256=manifest_digest(manifest),
        problem=None,
    )
    session.commit()
    return held


def find_version(session: Session, name: str, version: int | None = None) -> ReferenceVersion:
    """This version, or without a number the newest one that is ready."""
    wanted = select(ReferenceVersion).where(ReferenceVersion.name == name)
    if version is not None and abs(version) > LARGEST_NUMBER:
        raise _unknown(session, name, version)
    if version is not None:
        found = session.scalars(wanted.where(ReferenceVersion.version == version)).one_or_none()
        if found is None:
            raise _unknown(session, name, version)
        return found
    versions = session.scalars(wanted.order_by(ReferenceVersion.version.desc())).all()
    if not versions:
        raise _unknown(session, name, None)
    ready = [version for version in versions if version.state == "ready"]
    if not ready:
        raise not_ready(versions[0])
    return ready[0]


def list_versions(session: Session) -> list[ReferenceVersion]:
    ordered = select(ReferenceVersion).order_by(ReferenceVersion.name, ReferenceVersion.version)
    return list(session.scalars(ordered))


def remove_version(session: Session, *, name: str, version: int) -> str:
    """Forget a version that no mapping used; returns the prefix of the bytes to remove."""
    found = find_version(session, name, version)
    used = session.scalar(select(func.count()).where(QueryMapping.reference_version_id == found.id))
    if used:
        raise ReferenceInUse(
            f"{used} mappings were made onto {name} version {version}.",
            fix="Delete those mappings first; their results name this version as their source.",
        )
    job = session.get_one(Job, found.job_id)
    session.delete(found)
    session.flush()
    session.delete(job)
    session.commit()
    return version_prefix(name, version)


def not_ready(version: ReferenceVersion) -> Problem:
    fixes = {
        "building": "Wait until it is built; GET the reference to see how far it is.",
        "failed": "Its `problem` says why the build failed; build it again.",
    }
    return ReferenceNotReady(
        f"Reference {version.name} version {version.version} is {version.state}.",
        fix=fixes.get(version.state, "Choose another version."),
        state=version.state,
    )


def rejected(query: Query) -> Problem:
    cause = query.problem or {}
    return QueryRejected(
        f"Query {query.id} was rejected: {cause.get('detail', 'its file was refused.')}",
        fix=str(cause.get("fix", "Upload a corrected file.")),
        errors=cause.get("errors") or (),
        cause=cause or None,
    )


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise MalformedRequest(
            f"{name!r} cannot name a reference.",
            fix="Use lower-case letters, digits, dots, dashes and underscores, at most 63.",
            errors=[{"pointer": "/name", "detail": f"must match {NAME_PATTERN}"}],
        )


def _commit_version(session: Session, name: str) -> None:
    try:
        session.commit()
    except IntegrityError as error:
        # Only where the database lets two writers in at once.
        session.rollback()
        raise ReferenceExists(
            f"Another request has just added a version of {name!r}.", fix="Send it again."
        ) from error


def _unknown(session: Session, name: str, version: int | None) -> Problem:
    names = session.scalars(
        select(ReferenceVersion.name).where(ReferenceVersion.state == "ready").distinct()
    )
    known = sorted(names)
    which = f"reference {name!r}" if version is None else f"version {version} of {name!r}"
    listed = f"Known references: {', '.join(known)}." if known else "No reference is ready yet."
    return UnknownReference(
        f"There is no {which}. {listed}", fix="See GET /v1/references.", known=known
    )
