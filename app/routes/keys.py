"""API keys: made, listed and revoked by administrators."""

from __future__ import annotations

from datetime import MAXYEAR, datetime

from fastapi import APIRouter, Response

from app.columns import utc_now
from app.keys import create_key, list_keys, revoke_key
from app.problems import (
    Forbidden,
    MalformedRequest,
    Unauthenticated,
    UnknownKey,
    UnsupportedMediaType,
)
from app.routes.access import Administrator, Served
from app.routes.answers import problems
from app.routes.bodies import KeyIn, KeyItem, Listed, NewKey
from app.routes.shapes import key_item

router = APIRouter(prefix="/keys", tags=["keys"], responses=problems(Unauthenticated, Forbidden))


@router.post(
    "",
    status_code=201,
    summary="Make a key; it is shown once",
    responses=problems(MalformedRequest, UnsupportedMediaType),
)
def create(service: Served, caller: Administrator, body: KeyIn, response: Response) -> NewKey:
    """Once a key exists, every request needs one; make the first with the scope `admin`."""
    _check_expiry(body.expires_at)
    with service.database.writing() as session:
        key, secret = create_key(
            session,
            name=body.name,
            owner=body.owner or caller.owner,
            scopes=body.scopes,
            expires_at=body.expires_at,
        )
    response.headers["Location"] = f"/v1/keys/{key.id}"
    response.headers["Cache-Control"] = "no-store"
    return NewKey(key=secret, **key_item(key).model_dump())


def _check_expiry(at: datetime | None) -> None:
    fault = None if at is None else _fault_of(at)
    if fault is not None:
        raise MalformedRequest(
            f"expires_at {fault}.",
            fix=f"Write it like {utc_now().year + 1}-01-31T00:00:00Z.",
            errors=[{"pointer": "/expires_at", "detail": fault}],
        )


def _fault_of(at: datetime) -> str | None:
    if at.tzinfo is None:
        return "has no time zone"
    if not 1 < at.year < MAXYEAR:
        return "is outside the calendar"
    return "is in the past" if at <= utc_now() else None


@router.get("", summary="All keys, without their secrets")
def list_all(service: Served, caller: Administrator) -> Listed[KeyItem]:
    with service.database.reading() as session:
        return Listed(items=[key_item(key) for key in list_keys(session)])


@router.delete("/{key_id}", summary="Revoke a key", responses=problems(UnknownKey))
def revoke(service: Served, caller: Administrator, key_id: str) -> KeyItem:
    """It stops working at once, and stays in the list."""
    with service.database.writing() as session:
        return key_item(revoke_key(session, key_id=key_id))
