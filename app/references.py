"""Reference versions: building, publishing and finding them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.bell import Bell
from app.jobs import Claim
from app.keys import LOCAL_ADMINISTRATOR, Principal
from app.licences import check_terms
from app.moves import enqueue, fenced, move_job, move_version
from app.ownership import hold_query
from app.problems import (
    MalformedRequest,
    Problem,
    ReferenceBuilding,
    ReferenceExists,
    ReferenceInUse,
    UnknownReference,
)
from app.reference_tables import GoldenQuery
from app.standing import USABLE_STATES, refusal
from app.tables import Job, QueryMapping, ReferenceVersion, new_id
from app.visibility import hidden_names, is_visible
from models_store.manifest import NAME_PATTERN

LARGEST_NUMBER = 2**63 - 1
"""What a database's integer can hold: a larger number is no version, and no query parameter."""
STANDING = ("state", "state_reason", "successor_id")


def version_folder(name: str, version: int) -> str:
    """All that the store holds of a version, of attempts that failed too."""
    return f"references/{name}/{version}"


def bundle_prefix(name: str, version: int, attempt: int) -> str:
    """Where one attempt at a build puts its bundle: no late attempt can touch another's."""
    return f"{version_folder(name, version)}/{attempt}"


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest as compact JSON with sorted keys."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def described(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a version's row says of its manifest; whoever registers a version says all of it."""
    return {
        "manifest": manifest,
        "manifest_sha256": manifest_digest(manifest),
        "licence": manifest.get("licence"),
        "citation": manifest.get("citation"),
        "surgery_has_effect": sees_batch(manifest),
    }


def sees_batch(manifest: Mapping[str, Any]) -> bool:
    """Whether the encoder sees the batch: else surgery cannot change a latent."""
    return bool(manifest.get("architecture", {}).get("encode_covariates", True))


def submit_build(
    session: Session,
    bell: Bell,
    *,
    owner: str,
    name: str,
    query_id: str,
    options: Mapping[str, Any],
    max_attempts: int,
) -> ReferenceVersion:
    """Record the next version of a reference; its build starts when the query is ready."""
    _check_name(name)
    check_terms(options)
    query = hold_query(session, owner=owner, query_id=query_id)
    number = next_version(session, name)
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
        version=number,
        state="building",
        options=dict(options),
        job_id=job.id,
        query_id=query.id,
    )
    session.add(version)
    commit_version(session, name)
    bell.ring(job.id, "build")
    return version


def next_version(session: Session, name: str) -> int:
    """The number that the next version of a name gets. Raises MalformedRequest for a bad name."""
    _check_name(name)
    newest = session.scalar(
        select(func.max(ReferenceVersion.version)).where(ReferenceVersion.name == name)
    )
    return (newest or 0) + 1


def publish_version(
    session: Session, claim: Claim, *, prefix: str, manifest: dict[str, Any]
) -> bool:
    """The build is done and its files are in the store: make the version usable."""
    job = move_job(session, [*fenced(claim), Job.state == "running"], "succeeded", progress=1.0)
    held = job is not None and move_version(
        session,
        claim.subject_id,
        "ready",
        **described(manifest),
        bundle_prefix=prefix,
        problem=None,
    )
    session.commit()
    return held


def find_version(
    session: Session, name: str, version: int | None = None, *, caller: Principal
) -> ReferenceVersion:
    """This version, or without a number the newest one that is ready.

    What the caller may not see is not there.
    """
    check_known(session, name, caller=caller)
    wanted = select(ReferenceVersion).where(ReferenceVersion.name == name)
    if version is not None and abs(version) > LARGEST_NUMBER:
        raise _unknown(session, name, version, caller)
    if version is not None:
        found = session.scalars(wanted.where(ReferenceVersion.version == version)).one_or_none()
        if found is None:
            raise _unknown(session, name, version, caller)
        return found
    versions = session.scalars(wanted.order_by(ReferenceVersion.version)).all()
    default = default_version(versions)
    if default is None:
        raise _unknown(session, name, None, caller)
    if default.state != "ready":
        raise refusal(session, default, caller)
    return default


def check_known(session: Session, name: str, *, caller: Principal) -> None:
    """Raise UnknownReference unless there is, or was, a version of this name to be seen."""
    known = session.scalar(select(ReferenceVersion.id).where(ReferenceVersion.name == name))
    if known is None or not is_visible(session, name, caller):
        raise _unknown(session, name, None, caller)


def default_version(versions: Sequence[ReferenceVersion]) -> ReferenceVersion | None:
    """Of versions in their order: the newest ready one, or the newest that there is to show."""
    ready = [version for version in versions if version.state == "ready"]
    deprecated = [version for version in versions if version.state == "deprecated"]
    left = [version for version in versions if version.state != "withdrawn"]
    kept = [version for version in versions if version.bundle_prefix is not None]
    return next(reversed(ready or deprecated or left or kept), None)


def find_usable_version(
    session: Session, name: str, version: int | None = None, *, caller: Principal
) -> ReferenceVersion:
    """A version that has a bundle to map onto."""
    found = find_version(session, name, version, caller=caller)
    if found.state not in USABLE_STATES:
        raise refusal(session, found, caller)
    return found


def hold_usable_version(
    session: Session, name: str, version: int | None = None, *, caller: Principal
) -> ReferenceVersion:
    """The same, and it cannot be removed until the commit."""
    found = find_usable_version(session, name, version, caller=caller)
    session.refresh(found, attribute_names=STANDING, with_for_update={"read": True})
    if found.state not in USABLE_STATES:
        raise refusal(session, found, caller)
    return found


def find_built_version(
    session: Session, name: str, version: int | None = None, *, caller: Principal
) -> ReferenceVersion:
    """A version whose bundle is here: a withdrawn one still explains the results made with it."""
    found = find_version(session, name, version, caller=caller)
    if found.manifest_sha256 is None or found.bundle_prefix is None:
        raise refusal(session, found, caller)
    return found


def hold_built_version(
    session: Session, name: str, version: int | None = None, *, caller: Principal
) -> ReferenceVersion:
    """The same, and it cannot be removed until the commit."""
    found = find_built_version(session, name, version, caller=caller)
    session.refresh(
        found, attribute_names=(*STANDING, "bundle_prefix"), with_for_update={"read": True}
    )
    if found.bundle_prefix is None:
        raise refusal(session, found, caller)
    return found


def list_versions(session: Session, *, caller: Principal) -> list[ReferenceVersion]:
    ordered = select(ReferenceVersion).order_by(ReferenceVersion.name, ReferenceVersion.version)
    hidden = hidden_names(session, caller)
    return [version for version in session.scalars(ordered) if version.name not in hidden]


def lock_name(session: Session, name: str) -> None:
    """Whoever changes what belongs to a name, not to one version, comes here one at a time.

    The name's first version stands for it: its row is always there.
    """
    first = select(ReferenceVersion.id).where(ReferenceVersion.name == name)
    session.execute(first.order_by(ReferenceVersion.version).limit(1).with_for_update())


def remove_version(session: Session, *, name: str, version: int) -> str:
    """Withdraw a version that no mapping used; returns the prefix of the bytes to remove.

    The row stays, so that no other bundle ever bears its number. Removing twice is no error: it
    removes what a crash left behind the first time.
    """
    found = find_version(session, name, version, caller=LOCAL_ADMINISTRATOR)
    session.refresh(found, attribute_names=["state"], with_for_update=True)
    if found.state == "building":
        raise ReferenceBuilding(
            f"{name} version {version} is being built.", fix="Wait until the build has ended."
        )
    used = session.scalar(select(func.count()).where(QueryMapping.reference_version_id == found.id))
    if used:
        raise ReferenceInUse(
            f"{used} mappings were made onto {name} version {version}.",
            fix="Delete those mappings first; their results name this version as their source.",
        )
    move_version(session, found.id, "withdrawn")
    found.bundle_prefix = None
    session.execute(delete(GoldenQuery).where(GoldenQuery.version_id == found.id))
    session.commit()
    return version_folder(name, version)


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise MalformedRequest(
            f"{name!r} cannot name a reference.",
            fix="Use lower-case letters, digits, dots, dashes and underscores, at most 63.",
            errors=[{"pointer": "/name", "detail": f"must match {NAME_PATTERN}"}],
        )


def commit_version(session: Session, name: str) -> None:
    """Commit a new version. Raises ReferenceExists: somebody took its number meanwhile."""
    flush_version(session, name)
    session.commit()


def flush_version(session: Session, name: str) -> None:
    """`commit_version` without the commit."""
    try:
        session.flush()
    except IntegrityError as error:
        # Only where the database lets two writers in at once.
        session.rollback()
        raise ReferenceExists(
            f"Another request has just added a version of {name!r}.", fix="Send it again."
        ) from error


def _unknown(session: Session, name: str, version: int | None, caller: Principal) -> Problem:
    names = session.scalars(
        select(ReferenceVersion.name).where(ReferenceVersion.state == "ready").distinct()
    )
    known = sorted({*names} - hidden_names(session, caller))
    which = f"reference {name!r}" if version is None else f"version {version} of {name!r}"
    listed = f"Known references: {', '.join(known)}." if known else "No reference is ready yet."
    return UnknownReference(
        f"There is no {which}. {listed}", fix="See GET /v1/references.", known=known
    )
