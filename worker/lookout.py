"""When an idle lane looks for work, and how long it leaves a mapping to a better-placed worker."""

from __future__ import annotations

import time
from collections.abc import Collection

from sqlalchemy.orm import Session

from app.database import Database
from app.jobs import something_waits

PATIENCE_SECONDS = 1.5
"""How long a mapping is left to an idle worker that has its reference loaded."""
GLANCE_SECONDS = 0.2
"""How often one looks whether that worker has taken it."""


class Lookout:
    """Looks every `poll_seconds` without the write lock, and at once when a bell rings.

    Every `sign_seconds` it says yes whatever there is: a claim is also a worker's sign of life.
    """

    def __init__(
        self,
        database: Database,
        kinds: Collection[str],
        *,
        poll_seconds: float,
        sign_seconds: float,
    ) -> None:
        self.patient = True
        """Whether the claim that is worth making leaves mappings to warm workers."""
        self._database, self._kinds = database, kinds
        self._poll_seconds, self._sign_seconds = poll_seconds, sign_seconds
        self._signed = -sign_seconds
        self._look_at = 0.0
        self._deferred_at: float | None = None

    def hear(self) -> None:
        """Look at the next turn. Any thread may say so."""
        self._look_at = 0.0

    def is_worth_a_claim(self, worker: str, only: Collection[str] | None) -> bool:
        now = time.monotonic()
        if now - self._signed >= self._sign_seconds:
            self._signed = now
            self.patient = True
            return True
        if now < self._look_at:
            return False
        self._look_at = now + self._poll_seconds  # before the look: a ring meanwhile is not lost
        with self._database.reading() as session:
            if not self._waits(session, worker, only, patient=False):
                self._deferred_at = None
                return False
            self.patient = self._waits(session, worker, only, patient=True)
        if self.patient:
            self._deferred_at = None
            return True
        return self._has_waited(now)

    def _waits(
        self, session: Session, worker: str, only: Collection[str] | None, *, patient: bool
    ) -> bool:
        return something_waits(
            session, worker=worker, kinds=self._kinds, only=only, patient=patient
        )

    def _has_waited(self, now: float) -> bool:
        """Whether all that waits has been left to warm workers for long enough."""
        if self._deferred_at is None:
            self._deferred_at = now
        if now - self._deferred_at < PATIENCE_SECONDS:
            self._look_at = now + GLANCE_SECONDS
            return False
        self._deferred_at = None
        return True
