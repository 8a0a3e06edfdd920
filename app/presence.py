"""Who is at work on a data folder: APIs hold a shared lock on it, workers leave a sign of life.

`python -m app.presence` is a container's health check: exit code 0 while its worker is alive. It
asks neither the database nor the store, so a worker that waits for them counts as alive; and it
imports nothing heavy, because it runs every few seconds beside one that computes.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

log = logging.getLogger("cellgraft.api")

LOCK_NAME = "api.lock"
SILENT_SECONDS = 60.0
"""A worker whose loop has not turned for so long is stuck: what computes or moves files does so
beside the loop, and every wait of the loop itself has a limit."""


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


class SignOfLife:
    """A file that a worker's loop touches at every turn, also while the database is away.

    It is named after the host, which is the container: workers may share a data folder.
    """

    def __init__(self, data_dir: Path) -> None:
        self._file = data_dir / f"worker-{socket.gethostname()}.alive"
        self._given = 0.0

    def give(self) -> None:
        if time.monotonic() - self._given >= 1:
            with suppress(OSError):  # a full disk is no reason for the loop to end
                self._file.touch()
            self._given = time.monotonic()

    def age(self) -> float | None:
        """Seconds since the last sign; None: there is none."""
        try:
            return max(time.time() - self._file.stat().st_mtime, 0.0)
        except FileNotFoundError:
            return None

    def withdraw(self) -> None:
        self._file.unlink(missing_ok=True)


def _lock_file(data_dir: Path) -> IO[bytes]:
    data_dir.mkdir(parents=True, exist_ok=True)
    return (data_dir / LOCK_NAME).open("ab")


def main() -> int:
    age = SignOfLife(Path(os.environ.get("CELLGRAFT_DATA_DIR", "data"))).age()
    told = "never" if age is None else f"{age:.0f} seconds ago"
    sys.stdout.write(f"The worker's loop last turned: {told}.\n")
    return 0 if age is not None and age <= SILENT_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
