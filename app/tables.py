"""The tables, and the moves that a job, a query and a reference version may make."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    false,
)
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.columns import UTCDateTime, utc_now

JobKind = Literal["check", "map", "shard", "rank", "build", "import"]
"""`import` is done by an administrator's command itself: no worker ever claims one."""
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
QueryState = Literal["checking", "ready", "rejected"]
VersionState = Literal["building", "ready", "failed", "deprecated", "withdrawn"]

JOB_MOVES: Mapping[JobState, frozenset[JobState]] = {
    "queued": frozenset({"running", "failed", "cancelled"}),
    "running": frozenset({"queued", "succeeded", "failed", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
QUERY_MOVES: Mapping[QueryState, frozenset[QueryState]] = {
    "checking": frozenset({"ready", "rejected"}),
    "ready": frozenset(),
    "rejected": frozenset(),
}
VERSION_MOVES: Mapping[VersionState, frozenset[VersionState]] = {
    "building": frozenset({"ready", "failed"}),
    "ready": frozenset({"deprecated", "withdrawn"}),
    "deprecated": frozenset({"withdrawn"}),
    "failed": frozenset({"withdrawn"}),
    "withdrawn": frozenset(),
}

ID = String(32)
# SQLite counts up by itself only in a column of exactly INTEGER.
COUNTER = BigInteger().with_variant(Integer(), "sqlite")


def new_id() -> str:
    return uuid.uuid4().hex


class Table(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UTCDateTime,
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
        str: String(255),
        int: BigInteger,
    }


class ApiKey(Table):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str]
    owner: Mapped[str]
    scopes: Mapped[list[Any]]
    secret_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Query(Table):
    __tablename__ = "queries"
    __table_args__ = (
        Index("ix_queries_owner_created", "owner", "created_at", "id"),
        Index("ix_queries_keeps_upload", "keeps_upload", "storage_key"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True, default=new_id)
    owner: Mapped[str]
    state: Mapped[QueryState] = mapped_column(String(16))
    filename: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    storage_key: Mapped[str | None]
    """None: the file has been removed, because nobody is to keep it."""
    parts: Mapped[list[Any] | None]
    """See `app.parts`; None where the query is one file, which the columns around tell all of."""
    keeps_upload: Mapped[bool] = mapped_column(default=True)
    """Whether the file stays in the store once it is checked."""
    canonical_prefix: Mapped[str | None]
    options: Mapped[dict[str, Any]]
    inspection: Mapped[dict[str, Any] | None] = mapped_column(deferred=True)
    external_id: Mapped[str | None] = mapped_column(index=True)
    tags: Mapped[list[Any]]
    problem: Mapped[dict[str, Any] | None]
    inspect_only: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Uploaded for its report alone: only `app.inspections` finds it, and soon forgets it."""
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)


class ReferenceVersion(Table):
    __tablename__ = "reference_versions"
    __table_args__ = (Unique("name", "version"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True, default=new_id)
    owner: Mapped[str]
    name: Mapped[str]
    version: Mapped[int]
    state: Mapped[VersionState] = mapped_column(String(16))
    manifest: Mapped[dict[str, Any] | None] = mapped_column(deferred=True)
    manifest_sha256: Mapped[str | None] = mapped_column(String(64))
    bundle_prefix: Mapped[str | None]
    """Where the bundle is in the store; None while there is none, or none any more."""
    options: Mapped[dict[str, Any]]
    problem: Mapped[dict[str, Any] | None]
    licence: Mapped[str | None]
    citation: Mapped[str | None] = mapped_column(Text)
    """Both from the manifest, which is large; every answer that names the version has them."""
    surgery_has_effect: Mapped[bool | None]
    """Likewise: whether the encoder sees the batch. None before there is a manifest."""
    state_reason: Mapped[str | None] = mapped_column(String(1000))
    """Why it is deprecated or withdrawn."""
    successor_id: Mapped[str | None] = mapped_column(ID)
    """The version to use instead. No foreign key: a version's row is never deleted."""
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    query_id: Mapped[str | None] = mapped_column(
        ForeignKey("queries.id", ondelete="SET NULL"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)


class QueryMapping(Table):
    __tablename__ = "mappings"
    __table_args__ = (Index("ix_mappings_owner_created", "owner", "created_at", "id"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True, default=new_id)
    owner: Mapped[str]
    query_id: Mapped[str] = mapped_column(ForeignKey("queries.id"), index=True)
    reference_version_id: Mapped[str] = mapped_column(
        ForeignKey("reference_versions.id"), index=True
    )
    reference_alias: Mapped[str | None]
    """Which alias of that version was asked for, if one was."""
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    options: Mapped[dict[str, Any]]
    results: Mapped[list[Any] | None]
    results_prefix: Mapped[str | None]
    summary: Mapped[dict[str, Any] | None]
    external_id: Mapped[str | None] = mapped_column(index=True)
    tags: Mapped[list[Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Ranking(Table):
    """The references that were compared for a query when its owner last asked for it."""

    __tablename__ = "rankings"

    id: Mapped[str] = mapped_column(ID, primary_key=True, default=new_id)
    owner: Mapped[str]
    query_id: Mapped[str] = mapped_column(ForeignKey("queries.id"), unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    version_ids: Mapped[list[Any]]
    """The reference versions that the asker saw. No foreign key: their rows are never deleted."""
    items: Mapped[list[Any] | None]
    """For each that was compared its `version_id`, and its figures or its problem."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Shard(Table):
    """Cells `start` to `stop` of a large query, read by a job of their own for a mapping."""

    __tablename__ = "shards"

    id: Mapped[str] = mapped_column(ID, primary_key=True, default=new_id)
    mapping_id: Mapped[str] = mapped_column(ForeignKey("mappings.id"), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    start: Mapped[int]
    stop: Mapped[int]
    prefix: Mapped[str | None]
    """Where its files are in the store; None before they are, and when they are gone again."""


class Job(Table):
    """A piece of work. Every write after the claim is fenced by (id, attempt, worker)."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_state_created", "state", "created_at", "id"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True, default=new_id)
    kind: Mapped[JobKind] = mapped_column(String(16))
    subject_id: Mapped[str] = mapped_column(ID, index=True)
    owner: Mapped[str]
    needs_query_id: Mapped[str | None] = mapped_column(ID, index=True)
    """Not claimable until this query is ready. No foreign key: queries point at jobs."""
    waits_for: Mapped[int] = mapped_column(default=0)
    """How many jobs have to succeed before this one is claimable: shards of its query."""
    state: Mapped[JobState] = mapped_column(String(16), default="queued")
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    worker: Mapped[str | None]
    lease_until: Mapped[float | None]
    """Seconds since 1970 by the database's clock, as is `heartbeat_at`."""
    heartbeat_at: Mapped[float | None]
    progress: Mapped[float] = mapped_column(default=0.0)
    stage: Mapped[str | None]
    progress_at: Mapped[float | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    revision: Mapped[int] = mapped_column(default=1)
    """Rises by one with every change that a client can see."""
    problem: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Event(Table):
    """What happened, in order; append-only, and kept when its subject is deleted."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(COUNTER, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(default=utc_now)
    kind: Mapped[str] = mapped_column(String(64))
    owner: Mapped[str]
    job_id: Mapped[str] = mapped_column(ID, index=True)
    subject_id: Mapped[str] = mapped_column(ID, index=True)
    data: Mapped[dict[str, Any]]


class IdempotencyKey(Table):
    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    mapping_id: Mapped[str] = mapped_column(ID, index=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Worker(Table):
    """When each worker last asked for work, and what it has at hand."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[float]
    device: Mapped[str | None]
    warm: Mapped[list[Any] | None]
    """Digests of the references that it has loaded, as `ReferenceVersion.manifest_sha256`."""
    sandbox: Mapped[dict[str, Any] | None]
    """The layer that holds its readers of uploaded files, and what that lacks."""


class Turn(Table):
    """When an owner's job was last picked up: owners take turns."""

    __tablename__ = "turns"

    owner: Mapped[str] = mapped_column(primary_key=True)
    lane: Mapped[str] = mapped_column(String(16), primary_key=True)
    """`check`, or `compute`: mappings, their shards, rankings, and builds."""
    taken_at: Mapped[float]
    """Seconds since 1970 by the database's clock."""
