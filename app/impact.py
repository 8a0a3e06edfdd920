"""Which mappings depend on a reference version, for whoever is about to retire it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from app.aliases import aliases_of
from app.keys import LOCAL_ADMINISTRATOR
from app.pages import page_of
from app.reference_tables import Alias
from app.references import find_version
from app.tables import Job, JobState, QueryMapping, ReferenceVersion


@dataclass(frozen=True)
class AffectedMapping:
    id: str
    owner: str
    external_id: str | None
    state: JobState
    created_at: datetime
    alias: str | None
    alias_names: int | None
    """The version that this alias names now; None where there is no alias, or none any more."""
    alias_moved: bool
    """The mapping was asked for by an alias that now names another version, or nothing."""


@dataclass(frozen=True)
class Impact:
    reference: str
    version: int
    licence: str | None
    citation: str | None
    n_mappings: int
    n_alias_moved: int
    items: list[AffectedMapping]
    next: str | None


def impact_of(
    session: Session,
    *,
    name: str,
    version: int,
    limit: int,
    cursor: str | None = None,
    alias_moved: bool = False,
) -> Impact:
    """All owners' mappings onto a version, newest first; with `alias_moved`, only such."""
    found = find_version(session, name, version, caller=LOCAL_ADMINISTRATOR)
    made = QueryMapping.reference_version_id == found.id
    moved = and_(made, _alias_moved(found))
    wanted = select(QueryMapping).where(moved if alias_moved else made)
    page = page_of(
        session, wanted, QueryMapping, limit=limit, cursor=cursor, external_id=None, tags=()
    )
    return Impact(
        reference=found.name,
        version=found.version,
        licence=found.licence,
        citation=found.citation,
        n_mappings=_count(session, made),
        n_alias_moved=_count(session, moved),
        items=_affected(session, found, page.items),
        next=page.next,
    )


def _alias_moved(version: ReferenceVersion) -> ColumnElement[bool]:
    still = select(Alias.alias).where(
        Alias.reference == version.name,
        Alias.alias == QueryMapping.reference_alias,
        Alias.version_id == version.id,
    )
    return and_(QueryMapping.reference_alias.is_not(None), ~still.exists())


def _count(session: Session, where: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(QueryMapping).where(where)) or 0


def _affected(
    session: Session, version: ReferenceVersion, mappings: Sequence[QueryMapping]
) -> list[AffectedMapping]:
    """Of one page; states and aliases are read at once."""
    named = aliases_of(session, [version.name])[version.name]
    wanted = {mapping.job_id for mapping in mappings}
    jobs = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(wanted)))}
    found = []
    for mapping in mappings:
        alias = mapping.reference_alias
        names = None if alias is None else named.get(alias)
        found.append(
            AffectedMapping(
                id=mapping.id,
                owner=mapping.owner,
                external_id=mapping.external_id,
                state=jobs[mapping.job_id].state,
                created_at=mapping.created_at,
                alias=alias,
                alias_names=names,
                alias_moved=alias is not None and names != version.version,
            )
        )
    return found
