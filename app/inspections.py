"""Reports of files that are not kept: asking, finding, and forgetting them."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, repeat

import anyio
from anyio import to_thread
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.columns import utc_now
from app.database import Database
from app.moves import lock_job, record_event
from app.problems import UnknownInspection
from app.queries import query_prefix
from app.storage import Storage
from app.tables import Job, Query

log = logging.getLogger("cellgraft.api")

KEPT = timedelta(hours=1)
"""How long after its end a report can be asked for by a client that did not wait for it."""
FIRST_SWEEP_SECONDS = 5
SWEEP_SECONDS = 300


def find_inspection(session: Session, *, owner: str, inspection_id: str) -> Query:
    """The query that was uploaded for its report alone; no other use-case finds it."""
    query = session.get(Query, inspection_id)
    if query is None or query.owner != owner or not query.inspect_only:
        raise UnknownInspection(
            f"There is no inspection {inspection_id!r}.",
            fix="Reports are kept for an hour at most: send the file again.",
        )
    return query


def forget_inspection(session: Session, *, owner: str, inspection_id: str) -> str:
    """Forget it in whatever state; returns the prefix of the bytes to remove after the rows.

    A worker in the middle of its check loses its claim.
    """
    query = find_inspection(session, owner=owner, inspection_id=inspection_id)
    prefix = _forget(session, query)
    session.commit()
    return prefix


def forget_ended(session: Session, *, before: datetime) -> list[str]:
    """Forget the reports that nobody came for; one that is still being made is not touched."""
    ended = select(Query).where(
        Query.inspect_only, Query.state != "checking", Query.updated_at < before
    )
    prefixes = [_forget(session, query) for query in session.scalars(ended).all()]
    session.commit()
    return prefixes


async def forget_for_ever(database: Database, storage: Storage) -> None:
    """Remove the reports of clients that never came back, now and then."""
    for seconds in chain([FIRST_SWEEP_SECONDS], repeat(SWEEP_SECONDS)):
        await anyio.sleep(seconds)
        try:
            await to_thread.run_sync(partial(_sweep, database, storage))
        except Exception as error:  # noqa: BLE001 - a database or store that is away: the next round
            log.warning("reports were not swept: %s", type(error).__name__)


def _sweep(database: Database, storage: Storage) -> None:
    prefixes = database.write(partial(forget_ended, before=utc_now() - KEPT))
    for prefix in prefixes:
        storage.delete(prefix)


def _forget(session: Session, query: Query) -> str:
    job = lock_job(session, query.job_id)
    locked = session.get(Query, query.id, with_for_update=True, populate_existing=True)
    if job is not None and locked is not None:
        record_event(session, job, "check.deleted")
        session.delete(locked)
        session.flush()
        session.delete(session.get_one(Job, job.id))
    return query_prefix(query.id)
