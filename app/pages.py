"""Pages of a list: newest first, continued by a cursor, narrowed by external id and tags."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, String, and_, cast, func, or_
from sqlalchemy.orm import Session

from app.problems import MalformedRequest
from app.tables import Query, QueryMapping

Row = TypeVar("Row", Query, QueryMapping)


@dataclass(frozen=True)
class Page(Generic[Row]):
    items: list[Row]
    next: str | None


def page_of(
    session: Session,
    wanted: Select[Row],
    table: type[Row],
    *,
    limit: int,
    cursor: str | None,
    external_id: str | None,
    tags: Sequence[str],
) -> Page[Row]:
    if external_id is not None:
        wanted = wanted.where(table.external_id == external_id)
    for tag in tags:
        # Tags are JSON text in both databases. `replace` is the test for "contains" that
        # neither of them makes case-insensitive or treats as a pattern.
        stored = cast(table.tags, String)
        wanted = wanted.where(func.replace(stored, json.dumps(tag), "") != stored)
    if cursor is not None:
        at, last_id = _read_cursor(cursor)
        wanted = wanted.where(
            or_(table.created_at < at, and_(table.created_at == at, table.id < last_id))
        )
    ordered = wanted.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)
    rows: list[Any] = list(session.scalars(ordered))
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], _write_cursor(rows[limit - 1]))


def _write_cursor(row: Query | QueryMapping) -> str:
    text = f"{row.created_at.isoformat()} {row.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        at, last_id = base64.urlsafe_b64decode(padded).decode().split(" ")
        instant = datetime.fromisoformat(at)
        if instant.tzinfo is None or "\0" in last_id:
            raise ValueError("a cursor names an instant and an id")
        return instant.astimezone(UTC), last_id
    except (ValueError, OverflowError, binascii.Error) as error:
        raise MalformedRequest(
            "The cursor is not one that this service gave out.",
            fix="Use the value of `next` from the previous page, or leave it out.",
            errors=[{"pointer": "?cursor", "detail": "unreadable"}],
        ) from error
