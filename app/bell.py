"""The bell: tells workers that a job may be ready. The database stays the truth."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from typing import Protocol

from app.tables import JobKind

log = logging.getLogger(__name__)

MOST_WAITING = 1000
PAUSE_SECONDS = 1.0
LOOK_UP_SECONDS = 0.5
LAST_WORDS_SECONDS = 1.0


class Bell(Protocol):
    def ring(self, job_id: str, kind: JobKind) -> None:
        """Say that a job may be ready. A lost ring costs time, never a job."""

    def answers(self) -> bool | None:
        """Whether the broker is there; None where there is none to ask."""

    def close(self) -> None:
        """Let the last rings out, for a moment."""


class PollingBell:
    """Embedded mode: workers see by themselves that the database has changed, so nobody rings."""

    def ring(self, job_id: str, kind: JobKind) -> None:
        return None

    def answers(self) -> bool | None:
        return None

    def close(self) -> None:
        return None


class CeleryBell:
    """Rings by a Celery task, from a thread of its own: no request ever waits for the broker.

    While the broker is away rings are dropped: workers find the jobs when they poll.
    """

    def __init__(self, broker_url: str) -> None:
        # Imported here because the embedded mode needs none of it, and starts faster without.
        from app.broker import Sender

        self._sender = Sender(broker_url)
        self._waiting: queue.Queue[tuple[str, JobKind]] = queue.Queue(MOST_WAITING)
        self._closing = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self, job_id: str, kind: JobKind) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
                self._thread.start()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait((job_id, kind))

    def answers(self) -> bool | None:
        return self._sender.answers()

    def close(self) -> None:
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.01)
        self._closing.set()
        if self._thread is not None:
            self._thread.join(LAST_WORDS_SECONDS)

    def _run(self) -> None:
        away = False
        while not self._closing.is_set():
            try:
                job_id, kind = self._waiting.get(timeout=LOOK_UP_SECONDS)
            except queue.Empty:
                continue
            try:
                self._sender.send(job_id, kind)
                away = False
            except Exception as error:  # noqa: BLE001 - a bell may break, its thread may not
                log.log(logging.DEBUG if away else logging.WARNING, "nobody heard: %s", error)
                away = True
                self._closing.wait(PAUSE_SECONDS)
                self._forget()
            finally:
                self._waiting.task_done()
        self._sender.hang_up()

    def _forget(self) -> None:
        """Drop what came meanwhile: polling has found it, or will before long."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
                self._waiting.task_done()


def open_bell(broker_url: str) -> Bell:
    """Without a broker nobody rings, and workers poll."""
    return CeleryBell(broker_url) if broker_url else PollingBell()
