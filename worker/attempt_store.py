"""The store during one attempt at a job: what it lends, and patience when it is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from app.problems import StorageAway
from app.storage import Storage
from worker.attempts import Attempt
from worker.outcomes import Stopped

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0
LOOK_SECONDS = 0.1
WAITING = "waiting for the file store"
T = TypeVar("T")


class AttemptStore:
    """Files and folders are lent until the `with` ends.

    A store that is away is asked again for `patience_seconds`: hours of work may wait to be
    published. After that StorageAway ends the attempt, and the job goes back to the queue.
    """

    def __init__(self, storage: Storage, attempt: Attempt, *, patience_seconds: float) -> None:
        self._storage, self._attempt = storage, attempt
        self._patience_seconds = patience_seconds
        self._lent = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lent.close()

    def upload(self, key: str, *, sha256: str) -> Path:
        """Read once, and perhaps not to be kept: no copy stays here."""
        return self._patiently(
            lambda: self._lent.enter_context(
                self._storage.borrow_file(
                    key, sha256=sha256, checkpoint=self._checkpoint, once=True
                )
            )
        )

    def folder(self, prefix: str) -> Path:
        return self._patiently(
            lambda: self._lent.enter_context(
                self._storage.borrow_folder(prefix, checkpoint=self._checkpoint)
            )
        )

    def publish(self, local: Path, prefix: str) -> None:
        """The same folder may be published again: what came through the first time is replaced."""
        self._patiently(lambda: self._storage.publish_folder(local, prefix))

    def _patiently(self, ask: Callable[[], T]) -> T:
        pause, deadline = FIRST_PAUSE_SECONDS, time.monotonic() + self._patience_seconds
        while True:
            try:
                return ask()
            except StorageAway:
                if time.monotonic() + pause > deadline:
                    raise
                log.warning("job %s waits for the file store", self._attempt.claim.job_id)
                self._attempt.report(WAITING, self._attempt.progress)
                self._rest(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._checkpoint()
            time.sleep(LOOK_SECONDS)

    def _checkpoint(self) -> None:
        if self._attempt.stopped():
            raise Stopped
