"""PostgreSQL, Redis and a fleet of workers that sleep instead of computing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.bell import CeleryBell
from app.database import Database
from tests.app.factories import built
from tests.conftest import missing
from tests.redis_server import RedisServer, own_redis

from .fleet import Fleet


@pytest.fixture
def database_url(postgresql_url: str) -> str:
    return postgresql_url


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    program = shutil.which("redis-server")
    if program is None:
        missing("redis-server: install it")
    with own_redis(program, tmp_path) as server:
        yield server


@pytest.fixture
def bell(redis: RedisServer) -> Iterator[CeleryBell]:
    opened = CeleryBell(redis.url)
    yield opened
    opened.close()


@pytest.fixture
def fleet(
    tmp_path: Path, database: Database, database_url: str, redis: RedisServer, bell: CeleryBell
) -> Iterator[Fleet]:
    made = Fleet(tmp_path, database, database_url, redis.url, bell)
    built(database, made.storage)
    yield made
    assert all(process.poll() is not None for process in made.workers)
