"""Upload and map in one: a query and its mapping, recorded together or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from app.bell import Bell
from app.keys import Principal
from app.mappings import MappingRequest, store_mapping
from app.parts import StagedPart
from app.queries import query_prefix, removed_on_failure, store_query
from app.staging import StagedFile
from app.storage import Storage
from app.tables import QueryMapping


def submit_file(
    session: Session,
    bell: Bell,
    *,
    owner: str,
    staged: StagedFile,
    others: Sequence[StagedPart] = (),
    storage: Storage,
    filename: str,
    query_options: Mapping[str, Any],
    request: MappingRequest,
    max_attempts: int,
    caller: Principal | None = None,
) -> QueryMapping:
    """Keep the file as a query and map it; `request.query` is filled in here."""
    query = store_query(
        session,
        owner=owner,
        staged=staged,
        others=others,
        storage=storage,
        filename=filename,
        options=query_options,
        external_id=request.external_id,
        tags=request.tags,
        max_attempts=max_attempts,
    )
    request = replace(request, query=query.id)
    with removed_on_failure(storage, query_prefix(query.id)):
        mapping = store_mapping(
            session, owner=owner, request=request, max_attempts=max_attempts, caller=caller
        )
    session.commit()
    bell.ring(query.job_id, "check")
    bell.ring(mapping.job_id, "map")
    return mapping
