"""The tables of what belongs to references beside their versions: aliases."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.columns import utc_now
from app.tables import Table


class Alias(Table):
    """A second name of a version, as `stable` in hlca@stable. Its history is in the events."""

    __tablename__ = "reference_aliases"

    reference: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("reference_versions.id"), index=True)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)
