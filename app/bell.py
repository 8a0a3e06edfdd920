"""The bell: tells workers that a job may be ready. The database stays the truth."""

from __future__ import annotations

from typing import Protocol


class Bell(Protocol):
    def ring(self, job_id: str) -> None:
        """Say that a job may be ready. A lost ring costs time, never a job."""


class PollingBell:
    """Embedded mode: workers look into the database ten times a second, so nobody rings."""

    def ring(self, job_id: str) -> None:
        return None
