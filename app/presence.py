"""Who is at work on a data folder: APIs hold a shared lock on it, workers leave a sign of life."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

log = logging.getLogger("cellgraft.api")

LOCK_NAME = "api.lock"


@contextmanager
def serving(data_dir: Path) -> Iterator[None]:
    """Held by an API while it serves. Waits for a repair to end: the two exclude each other."""
    with _lock_file(data_dir) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("waiting for `cellgraft fsck --repair` to end")
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextmanager
def alone(data_dir: Path) -> Iterator[bool]:
    """Whether no API serves this folder; if so, none begins to until the `with` ends."""
    with _lock_file(data_dir) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _lock_file(data_dir: Path) -> IO[bytes]:
    data_dir.mkdir(parents=True, exist_ok=True)
    return (data_dir / LOCK_NAME).open("ab")
