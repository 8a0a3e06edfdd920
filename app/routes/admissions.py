"""Checking a mapping request against a query that is ready, before a writer's turn is taken."""

from __future__ import annotations

from dataclasses import asdict

from app.admission import check_admission
from app.idempotency import find_earlier
from app.mappings import MappingRequest
from app.problems import UnknownQuery
from app.references import find_version, not_ready
from app.service import Service
from app.tables import Query


def admit(
    service: Service, *, owner: str, request: MappingRequest, idempotency_key: str | None
) -> None:
    """Raise what can be known now. A query not ready yet is judged again by the worker.

    A repeated request gets its first answer, whatever has become of the query since.
    """
    with service.database.reading() as session:
        asked = asdict(request)
        if find_earlier(session, owner=owner, key=idempotency_key, request=asked) is not None:
            return
        query = session.get(Query, request.query)
        if query is None or query.owner != owner:
            raise UnknownQuery(
                f"There is no query {request.query!r}.", fix="Upload it first: PUT /v1/queries."
            )
        if query.state != "ready":
            return
        version = find_version(session, request.reference, request.version)
        if version.state not in {"ready", "deprecated"}:
            raise not_ready(version)
        check_admission(
            inspection=query.inspection or {},
            coverage=service.genes.coverage(query, version),
            manifest=service.genes.manifest(version),
            options=request.options(),
        )
