"""Idempotency keys: the same request sent twice is done once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from app.database_errors import waited_for_lock
from app.problems import IdempotencyKeyInProgress, IdempotencyKeyReused
from app.tables import IdempotencyKey

LATER = frozenset(
    {"sample_key", "condition_key", "control_values", "cell_filter", "outputs", "force"}
)
"""What keys of earlier versions know nothing of: left out where it says nothing, so that a request
which is repeated after an upgrade is still the same."""


def find_earlier(
    session: Session, *, owner: str, key: str | None, request: Mapping[str, Any]
) -> str | None:
    """The id of the mapping that this key already made, if any."""
    earlier = session.get(IdempotencyKey, (owner, key)) if key is not None else None
    if earlier is None:
        return None
    if earlier.request_sha256 != _digest(request):
        raise IdempotencyKeyReused(
            f"Idempotency-Key {key!r} was used for another request.",
            fix="Use a new key for every new request; repeat one only to repeat its request.",
            mapping=earlier.mapping_id,
        )
    return earlier.mapping_id


def commit_with_key(
    session: Session,
    *,
    owner: str,
    key: str | None,
    request: Mapping[str, Any],
    mapping_id: str,
) -> None:
    """Commit the mapping, its job and the key in one transaction.

    Where the database lets two writers in at once, the later waits here for the earlier.
    """
    if key is not None:
        session.add(
            IdempotencyKey(
                owner=owner, key=key, request_sha256=_digest(request), mapping_id=mapping_id
            )
        )
    try:
        session.commit()
    except (IntegrityError, OperationalError) as error:
        if isinstance(error, OperationalError) and not waited_for_lock(error):
            raise
        session.rollback()
        raise IdempotencyKeyInProgress(
            f"Another request with Idempotency-Key {key!r} is being answered.",
            fix="Send this request again in a moment.",
        ) from error


def forget_keys(session: Session, mapping_id: str) -> None:
    """The mapping is deleted: the request that made it may be sent again. Does not commit."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.mapping_id == mapping_id))


def _digest(request: Mapping[str, Any]) -> str:
    said = {name: value for name, value in request.items() if value or name not in LATER}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
