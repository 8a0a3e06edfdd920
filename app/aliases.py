"""Aliases of reference versions: set, taken away, and looked up when a job is submitted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.columns import utc_now
from app.keys import LOCAL_ADMINISTRATOR, Principal
from app.moves import record_event
from app.problems import Problem, UnknownReference
from app.reference_names import ReferenceName, check_alias, read_reference
from app.reference_tables import Alias
from app.references import check_known, find_usable_version, lock_name
from app.tables import Job, ReferenceVersion


def resolve(
    session: Session, reference: str, version: int | None = None, *, caller: Principal
) -> ReferenceName:
    """What NAME, NAME@VERSION or NAME@ALIAS means now. An alias stays beside its version."""
    asked = read_reference(reference, version)
    if asked.alias is None:
        return asked
    check_known(session, asked.name, caller=caller)
    found = _find(session, asked.name, asked.alias)
    if found is None:
        raise _unknown(session, asked.name, asked.alias)
    return replace(asked, version=session.get_one(ReferenceVersion, found.version_id).version)


def set_alias(session: Session, *, name: str, alias: str, version: int, by: str) -> int | None:
    """Let an alias name this version from now on; the version that it named before."""
    check_alias(alias)
    target = find_usable_version(session, name, version, caller=LOCAL_ADMINISTRATOR)
    lock_name(session, name)
    found = _find(session, name, alias)
    previous = None
    if found is None:
        session.add(Alias(reference=name, alias=alias, version_id=target.id))
    else:
        previous = session.get_one(ReferenceVersion, found.version_id).version
        found.version_id, found.updated_at = target.id, utc_now()
    _record(session, target, "alias-set", alias=alias, previous=previous, by=by)
    session.commit()
    return previous


def remove_alias(session: Session, *, name: str, alias: str, by: str) -> None:
    """Mappings that asked for it keep the version that it named."""
    check_known(session, name, caller=LOCAL_ADMINISTRATOR)
    lock_name(session, name)
    found = _find(session, name, alias)
    if found is None:
        raise _unknown(session, name, alias)
    target = session.get_one(ReferenceVersion, found.version_id)
    session.delete(found)
    _record(session, target, "alias-removed", alias=alias, by=by)
    session.commit()


def aliases_of(session: Session, names: Collection[str]) -> dict[str, dict[str, int]]:
    """For each of these references its aliases, with the version that each names now."""
    rows = session.execute(
        select(Alias.reference, Alias.alias, ReferenceVersion.version)
        .join(ReferenceVersion, ReferenceVersion.id == Alias.version_id)
        .where(Alias.reference.in_(names))
        .order_by(Alias.reference, Alias.alias)
    )
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for name, alias, version in rows:
        found[name][alias] = version
    return found


def _find(session: Session, name: str, alias: str) -> Alias | None:
    return session.get(Alias, (name, alias), populate_existing=True)


def _record(session: Session, version: ReferenceVersion, kind: str, **data: Any) -> None:
    job = session.get_one(Job, version.job_id)
    told = {"reference": version.name, "version": version.version, **data}
    record_event(session, job, f"reference.{kind}", **told)


def _unknown(session: Session, name: str, alias: str) -> Problem:
    known = aliases_of(session, [name])[name]
    listed = f"Its aliases: {', '.join(known)}." if known else "It has none."
    return UnknownReference(
        f"Reference {name!r} has no alias {alias!r}. {listed}",
        fix=f"Use one of these, or a version: see GET /v1/references/{name}.",
        known=list(known),
    )
