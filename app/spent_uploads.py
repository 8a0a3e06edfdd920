"""Uploaded files that nobody is to keep, once their check is done: the canonical query remains."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.moves import changed
from app.parts import parts_of
from app.tables import Query


def spent_uploads(session: Session) -> dict[str, list[str]]:
    """Queries that are checked and whose files are to go, with their keys in the store."""
    spent = select(Query).where(
        Query.keeps_upload.is_(False), Query.storage_key.is_not(None), Query.state != "checking"
    )
    return {query.id: [part.key for part in parts_of(query)] for query in session.scalars(spent)}


def forget_upload(session: Session, query_id: str) -> None:
    """The files of a query have been removed."""
    changed(session, update(Query).where(Query.id == query_id).values(storage_key=None))
    session.commit()
