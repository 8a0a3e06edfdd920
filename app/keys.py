"""API keys: made once, kept as a hash, compared in constant time; and who a caller is."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.columns import utc_now
from app.moves import changed
from app.problems import Forbidden, MalformedRequest, Unauthenticated, UnknownKey
from app.tables import ApiKey

Scope = Literal["read", "submit", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

LOCAL_OWNER = "local"
SECRET_BYTES = 24  # 192 bits
_NOTED_EVERY = timedelta(minutes=1)
_FIX = "Send the key as `Authorization: Bearer cg_...`; make one with `cellgraft keys create`."


@dataclass(frozen=True)
class Principal:
    """Who is asking. `admin` includes the other scopes; `submit` alone does not include `read`."""

    owner: str
    scopes: frozenset[str]
    key_id: str | None = None

    @property
    def is_administrator(self) -> bool:
        return "admin" in self.scopes

    def require(self, scope: Scope) -> None:
        if scope not in self.scopes and not self.is_administrator:
            raise Forbidden(
                f"This key lacks the scope {scope!r}; it has {', '.join(sorted(self.scopes))}.",
                fix="Use a key with that scope; `cellgraft keys create --scope` makes one.",
                scope=scope,
            )


def any_key_of(owner: str) -> Principal:
    """This owner, with no scope: who sees what any key of theirs does."""
    return Principal(owner=owner, scopes=frozenset())


LOCAL_ADMINISTRATOR = Principal(owner=LOCAL_OWNER, scopes=frozenset(SCOPES))


def create_key(
    session: Session,
    *,
    name: str,
    owner: str,
    scopes: Collection[str],
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """The key's row, and the key itself, which is never to be seen again."""
    _check_scopes(scopes)
    key_id, secret = secrets.token_hex(6), secrets.token_hex(SECRET_BYTES)
    key = ApiKey(
        id=key_id,
        name=name,
        owner=owner,
        scopes=[scope for scope in SCOPES if scope in scopes],
        secret_sha256=_hash(secret),
        expires_at=expires_at,
    )
    session.add(key)
    session.commit()
    return key, f"cg_{key_id}_{secret}"


def authenticate(session: Session, token: str) -> Principal:
    """Who holds this key. Every kind of wrong key gets the same answer."""
    mark, _, rest = token.partition("_")
    key_id, _, secret = rest.partition("_")
    key = session.get(ApiKey, key_id) if mark == "cg" else None
    # Compared even when there is no such key, so that the time taken tells nothing.
    matches = hmac.compare_digest(key.secret_sha256 if key else "0" * 64, _hash(secret))
    if key is None or not matches or not _is_active(key):
        raise unauthenticated("The API key is wrong, expired or revoked.")
    return Principal(owner=key.owner, scopes=frozenset(key.scopes), key_id=key.id)


def unauthenticated(detail: str, fix: str = _FIX) -> Unauthenticated:
    problem = Unauthenticated(detail, fix=fix)
    problem.headers["WWW-Authenticate"] = "Bearer"
    return problem


def has_keys(session: Session) -> bool:
    """Whether a key was ever made: revoking or outliving the last one opens no door again."""
    return session.scalar(select(ApiKey.id).limit(1)) is not None


def has_active_keys(session: Session) -> bool:
    active = select(func.count()).where(
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > utc_now()),
    )
    return bool(session.scalar(active))


def use_is_noted(session: Session, key_id: str) -> bool:
    """Whether the last use on record is recent enough; a write per request would be wasteful."""
    last = session.scalar(select(ApiKey.last_used_at).where(ApiKey.id == key_id))
    return last is not None and last > utc_now() - _NOTED_EVERY


def note_use(session: Session, key_id: str) -> None:
    changed(session, update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=utc_now()))
    session.commit()


def list_keys(session: Session) -> list[ApiKey]:
    return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)))


def revoke_key(session: Session, *, key_id: str) -> ApiKey:
    """Revoking twice is no error, and keeps the first instant."""
    key = session.get(ApiKey, key_id)
    if key is None:
        raise UnknownKey(
            f"There is no API key {key_id!r}.",
            fix="Use the id, the middle part of cg_ID_SECRET; `cellgraft keys list` shows them.",
        )
    key.revoked_at = key.revoked_at or utc_now()
    session.commit()
    return key


def _check_scopes(scopes: Collection[str]) -> None:
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise MalformedRequest(
            f"Unknown scopes: {', '.join(unknown)}." if unknown else "A key needs a scope.",
            fix=f"Choose from {', '.join(SCOPES)}.",
            errors=[{"pointer": "/scopes", "detail": f"one or more of {', '.join(SCOPES)}"}],
        )


def _is_active(key: ApiKey) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > utc_now())


def _hash(secret: str) -> str:
    # A plain hash is enough: 192 random bits cannot be guessed, slowly or fast.
    return hashlib.sha256(secret.encode()).hexdigest()
