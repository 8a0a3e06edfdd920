"""Storage on an S3-compatible store, with local copies of what is read as a file."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath

from app.local_copies import Checkpoint, LocalCopies
from app.problems import StorageAway, StoredFileDamaged
from app.removals import Removals
from app.s3_connection import HASTE, Patience
from app.s3_objects import S3Objects, Stored

log = logging.getLogger("cellgraft.storage")

READ_BYTES = 4 * 1024 * 1024
COPY_BYTES = 32 * 1024 * 1024


class S3Storage:
    """A bucket below a prefix, as `app.storage.Storage` wants it.

    An object appears whole or not at all. A folder is complete when `publish_folder` returns, and
    nobody looks for it earlier: its prefix names the attempt, and a row is its publication.
    """

    def __init__(
        self, url: str, *, folder: Path, max_bytes: int, patience: Patience | None = None
    ) -> None:
        """Sends nothing yet.

        Args:
            url: see `S3Place`.
            folder: on this machine's disk, for local copies and notes of removals.
            max_bytes: of the local copies; what is in use stays even beyond it.
            patience: with one request.
        """
        self._url = url
        self._objects = S3Objects(url, patience or Patience())
        self._hasty = S3Objects(url, HASTE)
        ours = folder / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._copies = LocalCopies(ours / "copies", max_bytes=max_bytes)
        self._removals = Removals(ours / "removals", lambda prefix: _remove(self._objects, prefix))

    def publish_file(self, local: Path, key: str, *, sha256: str | None = None) -> None:
        self._objects.put(local, _key(key), sha256 or _digest(local))
        local.unlink()

    def publish_folder(self, local: Path, prefix: str) -> None:
        files = {
            f"{_key(prefix)}/{path.relative_to(local).as_posix()}": path
            for path in sorted(local.rglob("*"))
            if path.is_file()
        }
        for key, path in files.items():
            self._objects.put(path, key, _digest(path))
        found = self._objects.listed(prefix)
        self._objects.delete([stored.key for stored in found if stored.key not in files])
        shutil.rmtree(local)

    @contextmanager
    def borrow_file(
        self,
        key: str,
        *,
        sha256: str | None = None,
        checkpoint: Checkpoint = lambda: None,
        once: bool = False,
    ) -> Iterator[Path]:
        stored = self._objects.look(_key(key))
        folder, _, name = key.rpartition("/")
        with self._copied([stored], folder, sha256, checkpoint, once=once) as copies:
            yield copies / name

    @contextmanager
    def borrow_folder(
        self, prefix: str, *, checkpoint: Checkpoint = lambda: None
    ) -> Iterator[Path]:
        found = self._objects.listed(_key(prefix))
        if not found:
            raise FileNotFoundError(f"the store has no files below {prefix}")
        with self._copied(found, prefix, None, checkpoint) as copies:
            yield copies

    def size(self, key: str) -> int:
        return self._objects.look(_key(key)).bytes

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        if start >= end:
            self.size(key)
            return iter(())
        first = self._objects.block(_key(key), start, min(end, start + READ_BYTES)).content
        return self._blocks(key, start, end, first)

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except FileNotFoundError:
            return False
        return True

    def delete(self, prefix: str) -> None:
        """At once; or, when the store is away, as soon as it is back, even after a restart."""
        try:
            _remove(self._hasty, prefix)
        except StorageAway:
            self._removals.note(prefix)

    def keys(self, prefix: str = "") -> Iterator[str]:
        if prefix and self.exists(prefix):
            yield prefix
        yield from (stored.key for stored in self._objects.listed(prefix))

    def changed_at(self, key: str) -> float:
        return self._objects.changed_at(_key(key))

    def clock(self) -> float:
        return self._objects.clock()

    def check_writable(self) -> None:
        self._hasty.probe()

    def _blocks(self, key: str, start: int, end: int, block: bytes) -> Iterator[bytes]:
        """Each block is a request of its own: a slow reader holds no connection to the store."""
        while block:
            yield block
            start += len(block)
            rest = min(end, start + READ_BYTES)
            block = self._objects.block(key, start, rest).content if start < end else b""

    def _copied(
        self,
        found: list[Stored],
        below: str,
        sha256: str | None,
        checkpoint: Checkpoint,
        *,
        once: bool = False,
    ) -> AbstractContextManager[Path]:
        """The folder of local copies of these objects, named as they are below a prefix."""

        def fill(folder: Path) -> None:
            for stored in found:
                target = folder / PurePosixPath(stored.key).relative_to(below)
                target.parent.mkdir(parents=True, exist_ok=True)
                self._copy(stored, target, sha256, checkpoint)

        size = sum(stored.bytes for stored in found)
        # Changes with every byte that is stored, as far as the store's ETags do.
        identity = hashlib.sha256(repr(found).encode()).hexdigest()
        return self._copies.hold(identity, size, fill, checkpoint, once=once)

    def _copy(
        self, stored: Stored, target: Path, sha256: str | None, checkpoint: Checkpoint
    ) -> None:
        """Twice when the digest does not fit: bytes may also be damaged on their way."""
        for _ in range(2):
            found, carried = self._copy_once(stored, target, checkpoint)
            if found == (sha256 or carried or found) and target.stat().st_size == stored.bytes:
                return
            log.error("a copy of %s has SHA-256 %s", stored.key, found)
        raise StoredFileDamaged(
            f"The stored file {stored.key} is damaged: its SHA-256 is not what was recorded.",
            fix="Tell the administrator, who runs `cellgraft fsck` and restores the file.",
        )

    def _copy_once(
        self, stored: Stored, target: Path, checkpoint: Checkpoint
    ) -> tuple[str, str | None]:
        """The SHA-256 of the bytes that came, and the one that the object carries."""
        digest = hashlib.sha256()
        with target.open("wb") as file:
            at, carried = 0, None
            while at < stored.bytes or at == 0:
                checkpoint()
                end = min(at + COPY_BYTES, stored.bytes)
                block = self._objects.block(stored.key, at, end, etag=stored.etag)
                carried = block.sha256
                if not block.content:
                    break
                file.write(block.content)
                digest.update(block.content)
                at += len(block.content)
            os.fsync(file.fileno())
        return digest.hexdigest(), carried


def _remove(objects: S3Objects, prefix: str) -> None:
    below = [stored.key for stored in objects.listed(_key(prefix))]
    objects.delete([prefix, *below])


def _key(key: str) -> str:
    """Keys have no empty parts and no dots that lead elsewhere, as on a local disk."""
    if not key or any(part in {"", ".", ".."} for part in key.split("/")):
        raise ValueError(f"{key!r} is not a key of this store")
    return key


def _digest(local: Path) -> str:
    with local.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
