"""Uploaded files that nobody is to keep, once their check is done: the canonical query remains."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.moves import changed
from app.tables import Query


def spent_uploads(session: Session) -> dict[str, str]:
    """Queries that are checked and whose file is to go, with its key in the store."""
    spent = select(Query.id, Query.storage_key).where(
        Query.keeps_upload.is_(False), Query.storage_key.is_not(None), Query.state != "checking"
    )
    return {query_id: key for query_id, key in session.execute(spent) if key is not None}


def forget_upload(session: Session, query_id: str) -> None:
    """The file of a query has been removed."""
    changed(session, update(Query).where(Query.id == query_id).values(storage_key=None))
    session.commit()
