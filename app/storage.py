"""Where bytes live: queries, results and references under keys, published all or nothing."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from app.local_copies import Checkpoint
from app.s3_storage import S3Storage

READ_BLOCK = 1024 * 1024


class Storage(Protocol):
    """Bytes under keys such as `queries/ID/DIGEST.h5ad`; a prefix names a folder of keys.

    Where the store is another machine, every method may raise StorageAway, after having tried for
    a while; what it was to do may then have been done or not, and can be asked for again.
    """

    def publish_file(self, local: Path, key: str, *, sha256: str | None = None) -> None:
        """Make a finished file durable under a key; the local one is gone afterwards.

        `sha256` of the file, where it is known, saves reading it once more.
        """

    def publish_folder(self, local: Path, prefix: str) -> None:
        """The same for every file of a folder, replacing what a crashed attempt left there."""

    def borrow_file(
        self,
        key: str,
        *,
        sha256: str | None = None,
        checkpoint: Checkpoint = lambda: None,
        once: bool = False,
    ) -> AbstractContextManager[Path]:
        """A path that may be read, and not written, until the `with` ends.

        A copy is compared with `sha256`, or with what was recorded when the file was published.
        `checkpoint` is called now and then while a copy is made; it raises to give up.
        `once`: no copy is kept for the next who asks.
        """

    def borrow_folder(
        self, prefix: str, *, checkpoint: Checkpoint = lambda: None
    ) -> AbstractContextManager[Path]:
        """The same for a folder."""

    def size(self, key: str) -> int:
        """Bytes. Raises FileNotFoundError."""

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to, but without, `end`. Raises FileNotFoundError at once."""

    def exists(self, key: str) -> bool: ...

    def delete(self, prefix: str) -> None:
        """Remove a key or a whole prefix; what is not there is no error."""

    def keys(self, prefix: str = "") -> Iterator[str]: ...

    def changed_at(self, key: str) -> float:
        """When a key was published, by `clock`, or a little later. Raises FileNotFoundError."""

    def clock(self) -> float:
        """Now, in seconds since 1970 as the store counts them."""

    def check_writable(self) -> None:
        """Raise OSError where nothing can be stored."""


def open_storage(url: str, *, cache: Path, cache_bytes: int) -> Storage:
    """The store of a URL. Local copies of a store elsewhere go to `cache`, up to a size."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalStorage(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        return S3Storage(url, folder=cache, max_bytes=cache_bytes)
    raise ValueError(
        f"storage URL {url!r} is not understood; use file:///a/folder or s3://bucket/prefix"
    )


def read_whole(storage: Storage, key: str) -> bytes:
    """A small file. Raises FileNotFoundError."""
    return b"".join(storage.read(key, 0, storage.size(key)))


class LocalStorage:
    """A folder on this machine's disk."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        _make_folder(self.root)

    def publish_file(self, local: Path, key: str, *, sha256: str | None = None) -> None:
        target = self._path(key)
        _fsync(local)
        _put(local, target)

    def publish_folder(self, local: Path, prefix: str) -> None:
        target = self._path(prefix)
        for folder, _, files in os.walk(local):
            for name in files:
                _fsync(Path(folder, name))
            _fsync(Path(folder))
        if target.exists():
            shutil.rmtree(target)
        _put(local, target)

    def local_path(self, key: str) -> Path:
        return self._path(key)

    def local_folder(self, prefix: str) -> Path:
        return self._path(prefix)

    def borrow_file(
        self,
        key: str,
        *,
        sha256: str | None = None,
        checkpoint: Checkpoint = lambda: None,
        once: bool = False,
    ) -> AbstractContextManager[Path]:
        return nullcontext(self._path(key))

    def borrow_folder(
        self, prefix: str, *, checkpoint: Checkpoint = lambda: None
    ) -> AbstractContextManager[Path]:
        return nullcontext(self._path(prefix))

    def size(self, key: str) -> int:
        return self._path(key).stat().st_size

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        return _blocks(self._path(key).open("rb"), start, end)

    def exists(self, key: str) -> bool:
        return self._path(key).exists()

    def delete(self, prefix: str) -> None:
        path = self._path(prefix)
        _remove(path)
        self._drop_empty_folders(path.parent)

    def keys(self, prefix: str = "") -> Iterator[str]:
        start = self._path(prefix) if prefix else self.root
        if start.is_file():
            yield prefix
        # `os.walk`, because it passes over folders that are deleted meanwhile.
        for folder, folders, files in os.walk(start):
            folders.sort()
            for name in sorted(files):
                yield (Path(folder) / name).relative_to(self.root).as_posix()

    def changed_at(self, key: str) -> float:
        found = self._path(key).stat()
        # A rename leaves the time at which the upload was written, but is a change of the inode.
        return max(found.st_mtime, found.st_ctime)

    def clock(self) -> float:
        with tempfile.NamedTemporaryFile(dir=self.root, prefix=".probe-") as probe:
            probe.write(b"now")
            probe.flush()
            return os.fstat(probe.fileno()).st_mtime

    def check_writable(self) -> None:
        probe = self.root / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        path = Path(os.path.normpath(self.root / key))
        if path == self.root or not path.is_relative_to(self.root):
            raise ValueError(f"{key!r} is not a key of this store")
        return path

    def _drop_empty_folders(self, folder: Path) -> None:
        """Up to the first level (`queries`, `mappings`, ...), which every publication shares."""
        with suppress(OSError):
            while len(folder.relative_to(self.root).parts) > 1:
                folder.rmdir()
                folder = folder.parent


def _blocks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        left = end - start
        while left > 0 and (block := file.read(min(READ_BLOCK, left))):
            left -= len(block)
            yield block


def _put(local: Path, target: Path) -> None:
    """Move a file or folder to its place, under a name that is durable."""
    try:
        _put_once(local, target)
    except FileNotFoundError:
        # Whoever deleted something beside it took the folder away when it was empty for a moment.
        _put_once(local, target)


def _put_once(local: Path, target: Path) -> None:
    _make_folder(target.parent)
    _move(local, target)
    _fsync(target.parent)


def _make_folder(folder: Path) -> None:
    """Like mkdir -p, but each new folder's name is durable in its parent."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _fsync(folder.parent)


def _move(local: Path, target: Path) -> None:
    """Rename; where staging lies on another file system, copy beside the target and rename."""
    try:
        local.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = target.with_name(f".{target.name}.part")
        try:
            _copy(local, beside)
            beside.replace(target)
        except BaseException:
            _remove(beside)
            raise
        _remove(local)


def _copy(local: Path, beside: Path) -> None:
    _remove(beside)  # of a crashed attempt
    if local.is_dir():
        shutil.copytree(local, beside)
    else:
        shutil.copyfile(local, beside)
    for path in [beside, *beside.rglob("*")]:
        _fsync(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
