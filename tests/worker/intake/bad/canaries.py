"""Files that nothing may open, and the watch over them."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py

from tests.worker.intake import files

OPENED_OR_READ = 0x20 | 0x1  # IN_OPEN, IN_ACCESS
EVENT = struct.Struct("iIII")
NULL_DEVICE = os.makedev(1, 3)


def lay_out(folder: Path) -> None:
    """A sound neighbour, raw bytes, a FIFO that nobody writes to, and a device, if that may be."""
    folder.mkdir(parents=True, exist_ok=True)
    path = files.write_h5ad(folder / "neighbour")
    with h5py.File(path, "a") as file:
        file["dense"] = files.counts()
    path.rename(folder / "canary.h5ad")
    (folder / "canary.bin").write_bytes(bytes(4096))
    os.mkfifo(folder / "fifo")
    try:
        os.mknod(folder / "device", 0o20644, NULL_DEVICE)
    except PermissionError:  # without root: a link to the machine's own
        (folder / "device").symlink_to("/dev/zero")


class Watch:
    """What is opened or read in a folder, as the kernel tells it (inotify)."""

    def __init__(self, *folders: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._descriptor >= 0
        for folder in folders:
            added = self._libc.inotify_add_watch(
                self._descriptor, os.fsencode(folder), OPENED_OR_READ
            )
            assert added >= 0, os.strerror(ctypes.get_errno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def touched(self) -> set[str]:
        """The names of what was opened or read since this was last asked."""
        return {name for name in self._names() if name}

    def _names(self) -> Iterator[str]:
        while True:
            try:
                told = os.read(self._descriptor, 2**16)
            except BlockingIOError:
                return
            while told:
                _, _, _, length = EVENT.unpack_from(told)
                name = told[EVENT.size : EVENT.size + length].rstrip(b"\0")
                yield name.decode()
                told = told[EVENT.size + length :]


@contextmanager
def watched(folder: Path, own: str) -> Iterator[set[str]]:
    """Everything touched in the folder but the file itself; filled at the end."""
    found: set[str] = set()
    with Watch(folder) as watch:
        yield found
        found |= watch.touched() - {own}


def read_all(path: Path) -> None:
    """What a reader that trusts a file does: every link followed, every array read."""

    def read(group: h5py.Group, depth: int) -> None:
        for name in group:
            try:
                found = group[name]
                if isinstance(found, h5py.Dataset):
                    found[...]
                elif isinstance(found, h5py.Group) and depth < 5:
                    read(found, depth + 1)
            except (KeyError, OSError, ValueError, TypeError):
                continue

    with h5py.File(path, "r", locking=False) as file:
        read(file, 0)
