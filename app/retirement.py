"""Retiring a reference version: a deprecated one maps and says so, a withdrawn one maps no more."""

from __future__ import annotations

from typing import Literal

from sqlalchemy.orm import Session

from app.columns import utc_now
from app.keys import LOCAL_ADMINISTRATOR
from app.moves import move_version, record_event
from app.problems import MalformedRequest, WrongReferenceState
from app.reference_names import read_reference
from app.references import find_version
from app.tables import VERSION_MOVES, Job, ReferenceVersion

Retired = Literal["deprecated", "withdrawn"]
LONGEST_REASON = 1000


def retire_version(
    session: Session,
    *,
    name: str,
    version: int,
    to: Retired,
    reason: str,
    successor: str | None = None,
    by: str,
) -> ReferenceVersion:
    """Deprecate or withdraw a version, or give the one that is so another reason.

    Its files stay, and so do all results made with it; mappings that were accepted before end as
    they began. `successor` is NAME@VERSION, a version that is ready.
    """
    _check_reason(reason)
    found = find_version(session, name, version, caller=LOCAL_ADMINISTRATOR)
    session.refresh(found, attribute_names=["state"], with_for_update=True)
    following = None if successor is None else _successor(session, found, successor)
    told = {"state_reason": reason, "successor_id": following.id if following else None}
    if found.state == to:
        found.state_reason, found.successor_id = told["state_reason"], told["successor_id"]
        found.updated_at = utc_now()
    elif not move_version(session, found.id, to, **told):
        raise _refused(found, to)
    record_event(
        session,
        session.get_one(Job, found.job_id),
        f"reference.{to}",
        reference=name,
        version=version,
        reason=reason,
        successor=f"{following.name}@{following.version}" if following else None,
        by=by,
    )
    session.commit()
    session.refresh(found)
    return found


def _check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > LONGEST_REASON:
        raise MalformedRequest(
            "A version is retired for a reason, which everybody who used it is told.",
            fix=f"Give a reason of at most {LONGEST_REASON} characters.",
            errors=[{"pointer": "/reason", "detail": f"1 to {LONGEST_REASON} characters"}],
        )


def _successor(session: Session, version: ReferenceVersion, successor: str) -> ReferenceVersion:
    asked = read_reference(successor)
    if asked.version is None:
        raise _no_successor(f"{successor!r} names no version.", "Write it as NAME@VERSION.")
    found = find_version(session, asked.name, asked.version, caller=LOCAL_ADMINISTRATOR)
    if found.id == version.id or found.state != "ready":
        state = "itself" if found.id == version.id else found.state
        raise _no_successor(f"{successor} is {state}.", "Name another version, one that is ready.")
    return found


def _no_successor(detail: str, fix: str) -> MalformedRequest:
    return MalformedRequest(
        f"This cannot be a successor: {detail}",
        fix=fix,
        errors=[{"pointer": "/successor", "detail": detail}],
    )


def _refused(version: ReferenceVersion, to: Retired) -> WrongReferenceState:
    possible = sorted(state for state, onward in VERSION_MOVES.items() if to in onward)
    return WrongReferenceState(
        f"{version.name} version {version.version} is {version.state}, and cannot become {to}.",
        fix=f"Only a version that is {' or '.join(possible)} can.",
        state=version.state,
    )
