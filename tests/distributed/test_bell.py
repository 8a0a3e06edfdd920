"""The bell wakes workers; what it loses costs seconds, and what it says twice costs nothing."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from app.bell import CeleryBell
from tests.redis_server import RedisServer

from .fleet import Fleet

DEAF_TO_THE_CLOCK = {"poll_seconds": 300, "heartbeat_seconds": 300, "lease_seconds": 900}
"""A worker that looks only when it hears something."""
RESTARTS = int(os.environ.get("CELLGRAFT_TEST_REDIS_RESTARTS", "20"))
AWAY_SECONDS = float(os.environ.get("CELLGRAFT_TEST_REDIS_AWAY_SECONDS", "8"))


def test_a_ring_is_answered_at_once(fleet: Fleet) -> None:
    with fleet.working(1, seconds=0, **DEAF_TO_THE_CLOCK):
        fleet.finish(fleet.ask())
        for _ in range(10):
            job = fleet.ask()
            assert fleet.wait(lambda job=job: fleet.count([job], "succeeded")) < 1


def test_without_a_ring_polling_finds_the_job(fleet: Fleet, redis: RedisServer) -> None:
    with fleet.working(1, seconds=0, poll_seconds=1, heartbeat_seconds=300, lease_seconds=900):
        redis.kill()
        job = fleet.ask()
        assert fleet.wait(lambda: fleet.count([job], "succeeded")) < 3


def test_doubled_late_and_senseless_messages_change_nothing(fleet: Fleet, bell: CeleryBell) -> None:
    with fleet.working(2, seconds=0, **DEAF_TO_THE_CLOCK):
        job = fleet.ask()
        for _ in range(20):
            bell.ring(job, "map")
        fleet.finish(job)
        for kind in ("check", "map", "build"):
            bell.ring("no such job", kind)
        with bell._sender._app.connection_for_write() as connection:
            producer = bell._sender._app.amqp.Producer(connection)
            exchange = bell._sender._app.amqp.queues["cellgraft"].exchange
            producer.publish("junk", exchange=exchange, routing_key="cellgraft", declare=[exchange])
        after = fleet.ask()
        fleet.finish(after)
        assert fleet.job(job).attempt == 1


@pytest.mark.slow
def test_redis_restarts(
    fleet: Fleet, redis: RedisServer, record_property: pytest.RecordProperty
) -> None:
    """kill -9 and a new start, again and again: each time the worker hears within 5 s."""
    with fleet.working(1, seconds=0, **DEAF_TO_THE_CLOCK):
        fleet.finish(fleet.ask())
        took = []
        for _ in range(RESTARTS):
            redis.kill()
            redis.start()
            job = fleet.ask()
            took.append(fleet.wait(lambda job=job: fleet.count([job], "succeeded"), seconds=10))
    record_property("seconds from a restart to the end of a job", sorted(took))
    assert max(took) < 5, took


def test_redis_emptied_in_the_middle(fleet: Fleet, redis: RedisServer) -> None:
    with fleet.working(2, seconds=0.3):
        jobs = [fleet.ask() for _ in range(52)]
        fleet.wait(lambda: fleet.count(jobs, "running") == 2)
        redis.empty()
        fleet.finish(*jobs)
    assert {fleet.job(job).attempt for job in jobs} == {1}


@pytest.mark.slow
def test_redis_away_for_a_while(
    fleet: Fleet, redis: RedisServer, record_property: pytest.RecordProperty
) -> None:
    """Jobs are accepted without delay, and run, while it is away and when it is back."""
    with fleet.working(2, seconds=0.05, poll_seconds=1):
        redis.kill()
        ends = time.monotonic() + AWAY_SECONDS
        jobs, longest = [], 0.0
        while time.monotonic() < ends:
            began = time.monotonic()
            jobs.append(fleet.ask())
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.5)
        done = fleet.count(jobs, "succeeded")
        redis.start()
        fleet.finish(*jobs, seconds=10)
        fleet.finish(fleet.ask(), seconds=10)
    record_property("longest request, jobs, done meanwhile", (longest, len(jobs), done))
    assert longest < 0.5
    assert done >= len(jobs) // 2


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        yield port


def test_a_silent_broker_delays_nobody(silent_port: int) -> None:
    bell = CeleryBell(f"redis://127.0.0.1:{silent_port}/0")
    began = time.monotonic()
    for number in range(5000):
        bell.ring(str(number), "map")
    assert time.monotonic() - began < 1
    began = time.monotonic()
    assert bell.answers() is False
    assert time.monotonic() - began < 5
    began = time.monotonic()
    bell.close()
    assert time.monotonic() - began < 3
