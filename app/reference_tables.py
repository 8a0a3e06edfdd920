"""The tables of what belongs to references: aliases, who sees them, golden queries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.columns import utc_now
from app.tables import ID, Table


class Alias(Table):
    """A second name of a version, as `stable` in hlca@stable. Its history is in the events."""

    __tablename__ = "reference_aliases"

    reference: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("reference_versions.id"), index=True)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)


class Restriction(Table):
    """Who sees a reference and its cells; one without a row is seen by everybody."""

    __tablename__ = "reference_restrictions"

    reference: Mapped[str] = mapped_column(primary_key=True)
    owners: Mapped[list[Any] | None]
    cells: Mapped[str] = mapped_column(String(16), default="open")
    """`open`, `admin`, or `owners`: those of `cells_owners`."""
    cells_owners: Mapped[list[Any] | None]
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)


class GoldenQuery(Table):
    """A file with which a version is proved again, and what must come of it."""

    __tablename__ = "golden_queries"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("reference_versions.id"), index=True)
    filename: Mapped[str]
    storage_key: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64))
    expect: Mapped[str] = mapped_column(String(16))
    """`pass` or `fail`."""
    options: Mapped[dict[str, Any]]
    min_agreement: Mapped[float | None]
    problem_type: Mapped[str | None]
    latents: Mapped[dict[str, Any]]
    """By class of device, as `cpu`: the key and SHA-256 of what its first run gave."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
