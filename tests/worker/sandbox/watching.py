"""Whether anybody opens or reads a file: the kernel tells (inotify)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_ACCESS, IN_OPEN = 0x1, 0x20


class Watched:
    """Files that are watched. What was noticed is found when the `with` has ended."""

    def __init__(self) -> None:
        self.touched = False


@contextmanager
def watching(*paths: Path) -> Iterator[Watched]:
    libc = ctypes.CDLL(None, use_errno=True)
    watched = Watched()
    notes = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert notes >= 0, ctypes.get_errno()
    try:
        for path in paths:
            added = libc.inotify_add_watch(notes, os.fsencode(path), IN_ACCESS | IN_OPEN)
            assert added >= 0, ctypes.get_errno()
        yield watched
        try:
            watched.touched = len(os.read(notes, 65536)) > 0
        except BlockingIOError:
            watched.touched = False
    finally:
        os.close(notes)
