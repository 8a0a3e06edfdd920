"""torch's two file formats, read without torch: a zip of storages, and the older row of pickles."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from worker.imports.limits import SaveLimits
from worker.imports.pickled import read_pickle
from worker.imports.refusal import too_large, unreadable
from worker.imports.tensors import Read, Storage, storage_of

ZIP = b"PK\x03\x04"
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""With these two numbers, as pickles, begins a file of before torch 1.6."""

DAMAGE = (
    *(zipfile.BadZipFile, EOFError, RuntimeError),
    *(OSError, ValueError, struct.error),
)
"""What the zip reader raises where a record is not what the archive's directory says, or is of a
kind that it does not read (a RuntimeError)."""


@dataclass(frozen=True)
class Archive:
    """What a file holds: its pickled value, with tensors as views, and how to read storages."""

    value: Any
    read: Read
    format: str


@contextmanager
def open_archive(path: Path, limits: SaveLimits) -> Iterator[Archive]:
    """The content of a file that torch.save wrote.

    Raises:
        Refusal: it is no such file, is damaged, or declares more than is accepted.
    """
    size = path.stat().st_size
    if size > limits.file_bytes:
        raise too_large(f"{path.name} has {size:,} bytes, of {limits.file_bytes:,}")
    with path.open("rb") as file:
        head = file.read(len(ZIP))
        file.seek(0)
        if head == ZIP:
            with _zip(file, path.name) as archive:
                yield _read_zip(archive, path.name, size, limits)
        else:
            yield _read_row(file, path.name, size, limits)


@contextmanager
def _zip(file: BinaryIO, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, struct.error, RuntimeError) as error:
        raise unreadable(f"{name} is a damaged zip archive, or cut short: {error}") from error
    with archive:
        yield archive


def _read_zip(archive: zipfile.ZipFile, name: str, size: int, limits: SaveLimits) -> Archive:
    entries = {entry.filename: entry for entry in archive.infolist()}
    _judge_entries(archive.infolist(), name, size, limits)
    pickles = [each for each in entries if each.endswith("/data.pkl") and each.count("/") == 1]
    if len(pickles) != 1 or any(each.endswith("constants.pkl") for each in entries):
        raise unreadable(f"{name} is a zip archive, but not one that torch.save writes")
    if entries[pickles[0]].file_size > limits.pickle_bytes:
        raise too_large(f"the pickle in {name} has {entries[pickles[0]].file_size:,} bytes")
    root = pickles[0].removesuffix("data.pkl")
    order = f"{root}byteorder"
    if order in entries and _bytes(archive, entries[order], name) != b"little":
        raise unreadable(f"{name} was written on a machine of the other byte order")

    def read(storage: Storage) -> bytes:
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None:
            raise unreadable(f"{name} lacks the numbers of a tensor")
        if entry.file_size != storage.n_bytes:
            raise too_large(
                f"a tensor of {storage.n_bytes:,} bytes, of which {name} holds {entry.file_size:,}"
            )
        return _bytes(archive, entry, name)

    with _opened(archive, entries[pickles[0]], name) as stream:
        value = read_pickle(stream, what=name, persistent=storage_of)
    return Archive(value, read, "zip")


def _judge_entries(
    entries: list[zipfile.ZipInfo], name: str, size: int, limits: SaveLimits
) -> None:
    """torch stores its records as they are, one after the other: they add up to the file."""
    if len(entries) > limits.entries:
        raise too_large(f"{name} holds {len(entries):,} records")
    if any(entry.flag_bits & 1 for entry in entries):
        raise unreadable(f"{name} is encrypted")
    packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise too_large(
            f"{name} packs {packed[0].filename[:60]!r}, which torch never does, and declares "
            f"{sum(entry.file_size for entry in packed):,} bytes when unpacked"
        )
    for entry in entries:
        # The zip reader gives back the smaller of the two without a word.
        if entry.compress_size != entry.file_size:
            raise too_large(
                f"a record of {entry.file_size:,} bytes, of which {name} holds "
                f"{entry.compress_size:,}"
            )
    declared = sum(entry.file_size for entry in entries)
    if declared > size:
        raise too_large(f"{name} has {size:,} bytes and declares records of {declared:,}")


def _opened(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> IO[bytes]:
    try:
        return archive.open(entry)
    except DAMAGE as error:
        raise unreadable(f"{name} is damaged or cut short: {error}") from error


def _bytes(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> bytes:
    with _opened(archive, entry, name) as stream:
        try:
            return stream.read()
        except DAMAGE as error:
            raise unreadable(f"{name} is damaged or cut short: {error}") from error


def _read_row(file: BinaryIO, name: str, size: int, limits: SaveLimits) -> Archive:
    """Magic number, protocol, machine, the object, the keys of its storages, then their numbers."""
    storages: dict[str, Storage] = {}

    def remember(identity: Any) -> Storage:
        found = storage_of(identity)
        known = storages.setdefault(found.key, found)
        if (known.kind, known.numel) != (found.kind, found.numel):
            raise unreadable(f"{name} describes a storage in two ways")
        return found

    if _next(file, name, limits) != MAGIC or _next(file, name, limits) != PROTOCOL:
        raise unreadable(f"{name} is no file that torch.save writes")
    machine = _next(file, name, limits)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise unreadable(f"{name} was written on a machine of the other byte order")
    value = read_pickle(file, what=name, persistent=remember)
    _bounded(file, name, limits)
    keys = _next(file, name, limits)
    places = _places(file, name, size, keys, storages)

    def read(storage: Storage) -> bytes:
        file.seek(places[storage.key])  # not os.pread, which ends at 2 GiB
        return file.read(storage.n_bytes)

    return Archive(value, read, "row of pickles")


def _next(file: BinaryIO, name: str, limits: SaveLimits) -> Any:
    value = read_pickle(file, what=name)
    _bounded(file, name, limits)
    return value


def _bounded(file: BinaryIO, name: str, limits: SaveLimits) -> None:
    if file.tell() > limits.pickle_bytes:
        raise too_large(f"the pickles in {name} have {file.tell():,} bytes")


def _places(
    file: BinaryIO, name: str, size: int, keys: Any, storages: dict[str, Storage]
) -> dict[str, int]:
    """Where the numbers of each storage begin; each is led by how many there are."""
    if not isinstance(keys, list) or set(map(str, keys)) != set(storages):
        raise unreadable(f"{name} lists other storages than its tensors use")
    places: dict[str, int] = {}
    for key in keys:
        storage, count = storages[str(key)], file.read(8)
        if len(count) != 8 or struct.unpack("<q", count)[0] != storage.numel:
            raise unreadable(f"{name} is damaged or cut short")
        places[storage.key] = file.tell()
        if file.tell() + storage.n_bytes > size:
            raise too_large(f"a tensor of {storage.n_bytes:,} bytes, more than are left in {name}")
        file.seek(storage.n_bytes, os.SEEK_CUR)
    return places
