"""Files on their way in: written, hashed and fsynced in the staging folder; and its sweeping."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.declarations import too_large
from app.findings import empty_file
from app.problems import DigestMismatch, DiskFull, LengthMismatch

READ_BLOCK = 4 * 1024 * 1024
FSYNC_BYTES = 64 * 1024 * 1024
STAGED_NAMES = "upload-*.part"


@dataclass(frozen=True)
class StagedFile:
    """A finished upload: on disk, fsynced, and not yet anybody's."""

    path: Path
    bytes: int
    sha256: str


class StagingFile:
    """An upload in progress. Its lock tells the sweeper that a live process is writing it."""

    def __init__(
        self, folder: Path, *, max_bytes: int, reserve_bytes: int, of_bytes: int | None = None
    ) -> None:
        """`max_bytes` may be what is left of `of_bytes`, which are for several files."""
        self.path = folder / f"upload-{uuid.uuid4().hex}.part"
        self._max_bytes = max_bytes
        self._of_bytes = of_bytes or max_bytes
        self._reserve_bytes = reserve_bytes
        self._bytes = 0
        self._synced = 0
        self._hash = hashlib.sha256()
        with disk_full_told():
            self._file = self.path.open("xb", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._bytes

    def write(self, chunks: Sequence[bytes]) -> None:
        data = b"".join(chunks)
        if self._bytes + len(data) > self._max_bytes:
            raise too_large(self._of_bytes)
        self._hash.update(data)
        view = memoryview(data)
        with disk_full_told():
            while view:
                view = view[self._file.write(view) :]
            self._bytes += len(data)
            if self._bytes - self._synced >= FSYNC_BYTES:
                self._sync()
                check_space(self.path.parent, self._reserve_bytes)

    def finish(
        self, *, length: int | None, sha256: str | None, part: int | None = None
    ) -> StagedFile:
        """Make the bytes durable, then compare them with what was declared.

        `part` is its number, where there are several files. The file stays open, and so locked: a
        store may take hours before it is kept.
        """
        with disk_full_told():
            self._sync()
        if length is not None and self._bytes != length:
            raise LengthMismatch(
                f"{length} bytes were declared and {self._bytes} arrived.",
                fix="Send the file again.",
            )
        if self._bytes == 0:
            what = "The file" if part is None else f"Part {part}"
            raise empty_file(f"{what} holds 0 bytes.", "Check the path and send the file again.")
        digest = self._hash.hexdigest()
        if sha256 is not None and digest != sha256:
            what = "The bytes that arrived" if part is None else f"The bytes of part {part}"
            raise DigestMismatch(
                f"{what} have SHA-256 {digest}, not {sha256}.",
                fix="The file was changed on its way, or the digest is another file's. Send again.",
                sha256=digest,
            )
        return StagedFile(path=self.path, bytes=self._bytes, sha256=digest)

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def _sync(self) -> None:
        os.fsync(self._file)
        self._synced = self._bytes


def stage_local_file(folder: Path, file: Path, reserve_bytes: int) -> StagedFile:
    """A copy of a file of an administrator's own, of any size."""
    staging = StagingFile(folder, max_bytes=sys.maxsize, reserve_bytes=reserve_bytes)
    try:
        with file.open("rb") as source:
            while block := source.read(READ_BLOCK):
                staging.write([block])
        staged = staging.finish(length=None, sha256=None)
        staging.close()
        return staged
    except BaseException:
        staging.discard()
        raise


def check_space(folder: Path, reserve_bytes: int, *, coming: int = 0) -> None:
    free = shutil.disk_usage(folder).free
    if free - coming < reserve_bytes:
        raise DiskFull(
            f"{free} bytes are free, {reserve_bytes} of which are kept for results"
            + (f"; the file has {coming}." if coming else "."),
            fix="Free some space (delete queries and mappings), then send the file again.",
            free_bytes=free,
        )


@contextmanager
def disk_full_told() -> Iterator[None]:
    """Turn the system's "no space left" into a problem that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise DiskFull(
            "The disk is full.",
            fix="Free some space (delete queries and mappings), then send the file again.",
        ) from error


def sweep_staging(folder: Path, *, older_than_seconds: float = 60) -> int:
    """Remove what crashed uploads left behind; how many files. Live ones are locked."""
    swept = 0
    for path in folder.glob(STAGED_NAMES):
        with suppress(OSError), path.open("rb") as file:
            if time.time() - path.stat().st_mtime < older_than_seconds:
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            swept += 1
    return swept
