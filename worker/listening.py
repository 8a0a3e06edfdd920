"""The worker's ear: Celery tasks that make the parent's loop look for work at once.

A thread beside the loop, as no Celery worker runs here: docs/decisions/0021 says why. What it
hears is a hint. The loop claims from the database, whatever the message said, or did not say.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu.message import Message
from kombu.messaging import Consumer

from app.broker import TASKS, open_broker
from app.tables import JobKind

log = logging.getLogger(__name__)

DRAIN_SECONDS = 1.0
AGAIN_SECONDS = 1.0


class Listener:
    """Hears rings from `start` to `stop`; while the broker is away it tries every second."""

    def __init__(self, broker_url: str, heard: Callable[[JobKind], None]) -> None:
        self._app = open_broker(broker_url)
        _declare_tasks(self._app, heard)
        self._heard = heard
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(2 * DRAIN_SECONDS)

    def _run(self) -> None:
        away = False
        while not self._stopping.is_set():
            try:
                self._listen()
                away = False
            except Exception as error:  # noqa: BLE001 - polling goes on, and so must this
                log.log(logging.DEBUG if away else logging.WARNING, "hears nothing: %s", error)
                away = True
                self._stopping.wait(AGAIN_SECONDS)

    def _listen(self) -> None:
        """Until the connection breaks or `stop`."""
        with self._app.connection_for_read() as connection:
            consumer: Consumer = self._app.amqp.TaskConsumer(
                connection.default_channel, no_ack=True, callbacks=[self._perform]
            )
            with consumer:
                log.info("listening for jobs")
                # What was rung for meanwhile went unheard.
                for kind in TASKS:
                    self._heard(kind)
                while not self._stopping.is_set():
                    with contextlib.suppress(TimeoutError):
                        connection.drain_events(timeout=DRAIN_SECONDS)

    def _perform(self, body: Any, message: Message) -> None:
        """Run the task that a message names."""
        task = self._app.tasks.get(message.headers.get("task"))
        if task is None:
            log.warning("a message names no task that there is")
            return
        task(*body[0])


def _declare_tasks(app: Celery, heard: Callable[[JobKind], None]) -> None:
    """A task claims by waking the one loop that claims; which job is next, the queue decides."""

    def check_query(job_id: str) -> None:
        heard("check")

    def map_query(job_id: str) -> None:
        heard("map")

    def read_shard(job_id: str) -> None:
        heard("shard")

    def rank_references(job_id: str) -> None:
        heard("rank")

    def build_reference(job_id: str) -> None:
        heard("build")

    for task in (check_query, map_query, read_shard, rank_references, build_reference):
        app.task(task, name=task.__name__)
