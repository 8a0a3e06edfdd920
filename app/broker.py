"""What goes over the broker: the names of the tasks, JSON alone, and no patience with silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu.common import Broadcast
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.messaging import Producer

from app.tables import JobKind

TASKS: Mapping[JobKind, str] = {
    "check": "check_query",
    "map": "map_query",
    "shard": "read_shard",
    "rank": "rank_references",
    "build": "build_reference",
}
CHANNEL = "cellgraft"
TIMEOUT_SECONDS = 1.0
QUEUE_EXPIRES_SECONDS = 600
BROKEN = (OperationalError, OSError)
"""What a broker that is away raises."""


def open_broker(url: str) -> Celery:
    """The Celery application; nothing connects before it is used."""
    app = Celery("cellgraft", broker=_verifying(url), set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_queues=[_every_worker()],
        task_default_queue=CHANNEL,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        broker_connection_timeout=TIMEOUT_SECONDS,
        broker_transport_options=_short_of_patience(url),
    )
    return app


class Sender:
    """One connection to ring on, opened when first needed. For one thread, but for `answers`."""

    def __init__(self, url: str) -> None:
        self._app = open_broker(url)
        self._connection: Connection | None = None

    def send(self, job_id: str, kind: JobKind) -> None:
        """Raises what the transport raises, `BROKEN` as a rule, after seconds at most."""
        try:
            self._publish(job_id, kind)
        except BROKEN:
            # The broker may have been restarted since the last ring: a new connection may do.
            self.hang_up()
            self._publish(job_id, kind)

    def answers(self) -> bool:
        with self._app.connection_for_write() as connection:
            try:
                connection.ensure_connection(max_retries=0)
            except BROKEN:
                return False
        return True

    def hang_up(self) -> None:
        if self._connection is not None:
            self._connection.release()
            self._connection = None

    def _publish(self, job_id: str, kind: JobKind) -> None:
        if self._connection is None:
            self._connection = self._app.connection_for_write()
        producer: Producer = self._app.amqp.Producer(self._connection)
        # Declared with the message: a channel that knows no fanout would fill workers' queues.
        exchange = self._app.amqp.queues[CHANNEL].exchange
        self._app.send_task(TASKS[kind], [job_id], producer=producer, declare=[exchange])


def _every_worker() -> Broadcast:
    """A queue of one's own that hears every ring: whoever is free looks, and one of them claims.

    It expires because a killed worker does not take its queue along.
    """
    return Broadcast(CHANNEL, routing_key=CHANNEL, expires=QUEUE_EXPIRES_SECONDS)


def _verifying(url: str) -> str:
    """A rediss:// URL that says nothing of certificates: kombu would take any for good."""
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


def _short_of_patience(url: str) -> dict[str, Any]:
    """Fail at once: who rings drops the ring, and who listens decides himself when to try again."""
    options: dict[str, Any] = {"max_retries": 0, "interval_start": 0.0}
    if url.startswith(("redis", "sentinel", "unix")):
        options |= {"socket_connect_timeout": TIMEOUT_SECONDS, "socket_timeout": TIMEOUT_SECONDS}
    return options
