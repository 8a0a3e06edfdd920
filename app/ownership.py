"""A caller's own queries: what belongs to somebody else is not found."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.moves import lock_job
from app.problems import Problem, QueryRejected, UnknownQuery
from app.tables import Query


def find_query(session: Session, *, owner: str, query_id: str) -> Query:
    return _own(session.get(Query, query_id), owner, query_id)


def hold_query(session: Session, *, owner: str, query_id: str) -> Query:
    """A query to make something of, which can neither be rejected nor deleted until the commit.

    Without the lock, where the database lets two writers in at once, the worker that rejects the
    query could miss the job that is about to wait for it, which would then wait for ever.
    """
    query = _own(session.get(Query, query_id, with_for_update={"read": True}), owner, query_id)
    if query.state == "rejected":
        raise _rejected(query)
    return query


def lock_query(session: Session, *, owner: str, query_id: str) -> Query:
    """A query to be deleted: it cannot be checked, and nothing made of it, meanwhile."""
    query = _own(session.get(Query, query_id), owner, query_id)
    lock_job(session, query.job_id)
    return _own(session.get(Query, query_id, with_for_update=True), owner, query_id)


def _own(query: Query | None, owner: str, query_id: str) -> Query:
    if query is None or query.owner != owner or query.inspect_only:
        raise UnknownQuery(
            f"There is no query {query_id!r}.",
            fix="Check the id; GET /v1/queries lists the queries that you uploaded.",
        )
    return query


def _rejected(query: Query) -> Problem:
    cause = query.problem or {}
    return QueryRejected(
        f"Query {query.id} was rejected: {cause.get('detail', 'its file was refused.')}",
        fix=str(cause.get("fix", "Upload a corrected file.")),
        errors=cause.get("errors") or (),
        cause=cause or None,
    )
