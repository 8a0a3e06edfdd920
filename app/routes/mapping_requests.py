"""Checking a mapping request against a query that is ready, before a writer's turn is taken."""

from __future__ import annotations

from dataclasses import asdict

from app.admission import check_admission
from app.aliases import resolve
from app.idempotency import find_earlier
from app.keys import Principal
from app.mappings import MappingRequest
from app.ownership import find_query
from app.references import find_usable_version
from app.service import Service
from app.wanted_outputs import wanted_outputs


def admit(
    service: Service, *, caller: Principal, request: MappingRequest, idempotency_key: str | None
) -> None:
    """Raise what can be known now. A query not ready yet is judged again by the worker.

    A repeated request gets its first answer, whatever has become of the query since.
    """
    owner = caller.owner
    with service.database.reading() as session:
        asked = asdict(request)
        if find_earlier(session, owner=owner, key=idempotency_key, request=asked) is not None:
            return
        query = find_query(session, owner=owner, query_id=request.query)
        if query.state == "rejected":
            return
        named = resolve(session, request.reference, request.version, caller=caller)
        version = find_usable_version(session, named.name, named.version, caller=caller)
        manifest = service.genes.manifest(version)
        if query.state != "ready":
            wanted_outputs(request.options(), manifest)
            return
        check_admission(
            inspection=query.inspection or {},
            coverage=service.genes.coverage(query, version),
            manifest=manifest,
            options=request.options(),
        )
