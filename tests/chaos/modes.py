"""The modes that rounds are in: which servers and processes a service is made of."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.storage import open_storage
from tests.app.object_store import BUCKET, EMULATOR_KEYS, GIVEN_URL, emulator
from tests.postgresql import Databases, find_programs

from .services import CACHE_BYTES, Postgres, Redis, Service, distributed, embedded

ROTATION = ("distributed", "s3", "distributed", "embedded")
"""Of one round after the other; `s3` is the distributed mode without a shared folder."""


@contextmanager
def opened(folder: Path, *, mode: str, real: bool) -> Iterator[Service]:
    """A service that nothing runs of yet, but for its servers; all of it is gone afterwards."""
    with ExitStack() as stack:
        if mode == "embedded":
            service = embedded(folder, stub=not real)
        else:
            service = _distributed(stack, folder, mode, real)
        stack.callback(service.close)
        yield service


def missing_programs(mode: str) -> list[str]:
    """What a round in this mode needs and this machine lacks."""
    if mode == "embedded":
        return []
    found = {"PostgreSQL": find_programs(), "redis-server": shutil.which("redis-server")}
    return [name for name, path in found.items() if path is None]


def _distributed(stack: ExitStack, folder: Path, mode: str, real: bool) -> Service:
    programs, redis_program = find_programs(), shutil.which("redis-server")
    assert programs is not None
    assert redis_program is not None
    postgres = Postgres(programs, _home(stack), ())
    postgres.start()
    stack.callback(postgres.stop)
    redis = Redis(redis_program, folder)
    redis.start()
    stack.callback(redis.kill)
    databases = Databases(postgres.url)
    urls = {"database_url": databases.url_of(databases.create()), "broker_url": redis.url}
    if mode == "s3":
        urls["storage_url"] = stack.enter_context(_bucket(folder))
    workers = 2 if real else 3
    return distributed(folder, urls, (postgres, redis), workers=workers, stub=not real)


def _home(stack: ExitStack) -> Path:
    """A folder that PostgreSQL may enter, which refuses to run as root."""
    home = Path(tempfile.mkdtemp(prefix="cellgraft-chaos-"))
    stack.callback(shutil.rmtree, home)
    if os.geteuid() == 0:
        shutil.chown(home, "postgres", "postgres")
    return home


@contextmanager
def _bucket(folder: Path) -> Iterator[str]:
    """The URL of an empty place in an S3-compatible store, which is emptied afterwards.

    An emulator keeps everything in its memory: it is never killed, as no store loses its files.
    """
    if GIVEN_URL is not None:
        given = urlsplit(GIVEN_URL)
        url = given._replace(path=f"{given.path.rstrip('/')}/{uuid.uuid4().hex}").geturl()
        yield url
        _empty(url, folder)
        return
    with pytest.MonkeyPatch.context() as patch, emulator(folder / "emulator.log") as endpoint:
        for name, value in EMULATOR_KEYS.items():
            patch.setenv(name, value)
        yield f"s3://{BUCKET}/chaos?endpoint={endpoint}&region=us-east-1"


def _empty(url: str, folder: Path) -> None:
    storage = open_storage(url, cache=folder / "checker-cache", cache_bytes=CACHE_BYTES)
    for prefix in {key.partition("/")[0] for key in storage.keys("")}:
        storage.delete(prefix)
