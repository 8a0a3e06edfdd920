"""Copies of stored files on this machine's disk: made once, kept while used, the oldest go first.

Several processes may share one folder. An entry is a folder under its name; whoever reads it holds
a shared lock, whoever makes or removes it an exclusive one. All locks end with their process.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

Checkpoint = Callable[[], None]
"""Called again and again while somebody waits; raises when the work is to end."""

LOOK_SECONDS = 0.05
_ENTRY = re.compile(r"^[0-9a-f]{64}$")
_PART = re.compile(r"^([0-9a-f]{64})\.(\d+)\.part$")
_REMOVED = ".removed"


@dataclass(frozen=True)
class _Kept:
    name: str
    bytes: int
    used_at: float


class LocalCopies:
    """A folder of entries with a limit. What a job works on stays, even beyond the limit."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    @contextmanager
    def hold(
        self,
        name: str,
        size: int,
        fill: Callable[[Path], None],
        checkpoint: Checkpoint,
        *,
        once: bool = False,
    ) -> Iterator[Path]:
        """The entry's folder, which stays as it is until the `with` ends.

        Args:
            name: 64 hexadecimal digits that tell the content apart from any other.
            size: bytes that `fill` will write.
            fill: writes the content into an empty folder; it is seen by nobody before it returns.
            checkpoint: called while another process fills the entry.
            once: whether the entry is removed afterwards, unless somebody else holds it.
        """
        try:
            with self._held(name, size, fill, checkpoint) as folder:
                yield folder
        finally:
            if once and (self.folder / name).is_dir():
                self._remove(name)

    @contextmanager
    def _held(
        self, name: str, size: int, fill: Callable[[Path], None], checkpoint: Checkpoint
    ) -> Iterator[Path]:
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            with self._locked(name, fcntl.LOCK_SH, checkpoint) as lock:
                if (self.folder / name).is_dir():
                    os.utime(lock.name)
                    yield self.folder / name
                    break
            with self._locked(name, fcntl.LOCK_EX, checkpoint):
                if not (self.folder / name).is_dir():
                    self._fill(name, size, fill)
        self._make_room(0)

    def _fill(self, name: str, size: int, fill: Callable[[Path], None]) -> None:
        part = self.folder / f"{name}.{size}.part"
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        self._make_room(size, part)
        try:
            fill(part)
            part.rename(self.folder / name)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def _make_room(self, size: int, part: Path | None = None) -> None:
        """Remove what was used longest ago, until `size` more bytes fit the limit and the disk."""
        with (self.folder / "room.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._clear()
            kept = sorted(self._kept(), key=lambda entry: entry.used_at)
            used = sum(entry.bytes for entry in kept)
            limit = min(self.max_bytes, used + shutil.disk_usage(self.folder).free)
            used += self._coming()
            for entry in kept:
                if used + size <= limit:
                    break
                if self._remove(entry.name):
                    used -= entry.bytes
            if part is not None:
                part.mkdir()  # its name counts from here on

    def _kept(self) -> Iterator[_Kept]:
        for path in self.folder.iterdir():
            if _ENTRY.match(path.name):
                size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                with suppress(FileNotFoundError):
                    yield _Kept(path.name, size, self._lock_path(path.name).stat().st_mtime)

    def _coming(self) -> int:
        """Bytes that are being copied at this moment, by whomsoever."""
        found = (_PART.match(path.name) for path in self.folder.iterdir())
        return sum(int(part[2]) for part in found if part)

    def _clear(self) -> None:
        """Remove what killed processes left half made or half removed."""
        for path in self.folder.iterdir():
            part = _PART.match(path.name)
            if path.suffix == _REMOVED:
                shutil.rmtree(path, ignore_errors=True)
            elif part is not None and (lock := self._try_lock(part[1])) is not None:
                with lock:
                    shutil.rmtree(path, ignore_errors=True)
                    if not (self.folder / part[1]).exists():
                        Path(lock.name).unlink()

    def _remove(self, name: str) -> bool:
        """Unless somebody holds it."""
        lock = self._try_lock(name)
        if lock is None:
            return False
        with lock:
            # Out of sight at once: a removal that is cut short leaves no half of an entry.
            removed = self.folder / f"{name}.{uuid.uuid4().hex}{_REMOVED}"
            (self.folder / name).rename(removed)
            Path(lock.name).unlink()
            shutil.rmtree(removed, ignore_errors=True)
        return True

    def _try_lock(self, name: str) -> BinaryIO | None:
        lock = self._lock_path(name).open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        return lock

    def _locked(self, name: str, how: int, checkpoint: Checkpoint) -> BinaryIO:
        path = self._lock_path(name)
        while True:
            lock = path.open("ab")
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
                if _is_at(lock, path):
                    return lock
            except BlockingIOError:
                time.sleep(LOOK_SECONDS)
            except BaseException:
                lock.close()
                raise
            lock.close()
            checkpoint()

    def _lock_path(self, name: str) -> Path:
        return self.folder / f"{name}.lock"


def _is_at(lock: BinaryIO, path: Path) -> bool:
    """Whether the locked file still bears its name: else its entry was removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False
