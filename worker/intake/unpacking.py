"""Bytes that come out of compression, counted: a small file must not become an endless one."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from app.problems import Problem
from worker.intake.findings import located, too_large
from worker.intake.limits import Limits

GZIP, ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
GZIP_WINDOW = 31
"""zlib: a header of gzip, and the largest window."""
READ_BYTES = 256 * 1024
Kind = Literal["zip", "tar", "tar.gz"]


def archive_kind(path: Path) -> Kind | None:
    """What an upload is packed as, by its first bytes; None where it is no archive."""
    with path.open("rb") as file:
        head = file.read(READ_BYTES)
    if head.startswith(ZIP):
        return "zip"
    if head.startswith(GZIP):
        return "tar.gz" if _is_tar(first_unpacked(head)) else None
    return "tar" if _is_tar(head[: tarfile.BLOCKSIZE]) else None


def first_unpacked(head: bytes) -> bytes:
    """The first 512 bytes of what begins like this in gzip; none where nothing comes out."""
    try:
        return zlib.decompressobj(GZIP_WINDOW).decompress(head, tarfile.BLOCKSIZE)
    except zlib.error:
        return b""


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class Meter:
    """How much may still come out of one upload in one pass."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.stored = path.stat().st_size
        self.allowed = max(limits.expansion_floor, int(self.stored * limits.expansion))
        self.passed = 0

    def count(self, number: int, pointer: str) -> None:
        self.passed += number
        if self.passed > self.allowed:
            raise located(
                "expands-too-much",
                pointer,
                f"More than {self.allowed:,} bytes come out of a file of {self.stored:,}.",
                "Pack the three files of the matrix alone, as Cell Ranger writes them.",
            )


class Unpacked(io.RawIOBase):
    """A stream as it is, or what comes out of its gzip; every byte is counted."""

    def __init__(self, stream: BinaryIO, meter: Meter, pointer: str) -> None:
        super().__init__()
        self._stream, self._meter, self._pointer = stream, meter, pointer
        self._waiting = stream.read(READ_BYTES)
        packed = self._waiting.startswith(GZIP)
        self._inflater = zlib.decompressobj(GZIP_WINDOW) if packed else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data = self._next(len(view)) if self._inflater is None else self._inflate(len(view))
        self._meter.count(len(data), self._pointer)
        view[: len(data)] = data
        return len(data)

    def _next(self, wanted: int) -> bytes:
        data = self._waiting or self._stream.read(READ_BYTES)
        self._waiting = data[wanted:]
        return data[:wanted]

    def _inflate(self, wanted: int) -> bytes:
        assert self._inflater is not None
        while True:
            if self._inflater.eof and not self._begin_next():
                return b""
            packed = self._waiting or self._stream.read(READ_BYTES)
            data = self._inflater.decompress(packed, wanted)
            self._waiting = self._inflater.unconsumed_tail
            if data:
                return data
            if not packed and not self._inflater.eof:
                raise EOFError("the compressed bytes end too early")

    def _begin_next(self) -> bool:
        """gzip files may follow each other, and zeros may follow the last."""
        assert self._inflater is not None
        left = self._inflater.unused_data.lstrip(b"\0")
        while not left:
            more = self._stream.read(READ_BYTES)
            if not more:
                return False
            left = more.lstrip(b"\0")
        self._inflater, self._waiting = zlib.decompressobj(GZIP_WINDOW), left
        return True


@contextmanager
def unpacking(pointer: str) -> Iterator[None]:
    """Turn what goes wrong with a damaged archive into a problem at `pointer`."""
    try:
        yield
    except Problem:
        raise
    except MemoryError as error:
        raise too_large(pointer) from error
    except (
        *(OSError, EOFError, ValueError, OverflowError, KeyError, IndexError),
        # zipfile raises a RuntimeError for what is encrypted, or packed by a way it does not know.
        *(zlib.error, tarfile.TarError, zipfile.BadZipFile, RuntimeError),
    ) as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise located(
            "archive-damaged",
            pointer,
            f"What is packed here cannot be unpacked: {said}.",
            "Pack the files again, and compare its SHA-256 after copying it.",
        ) from error
