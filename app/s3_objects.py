"""Objects of one bucket below a prefix: the requests that the storage is made of."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import obstore

from app.s3_connection import NO_PATIENCE, Patience, S3Place, connect, errors_told

if TYPE_CHECKING:
    from obstore import GetOptions

PART_BYTES = 8 * 1024 * 1024
PARTS_AT_ONCE = 4
MOST_PARTS = 9_000
"""The protocol allows 10,000."""
LIST_KEYS = 1000
DIGEST = "sha256"
"""The metadata under which every object carries the SHA-256 of its bytes."""
PROBE = ".probe-"


@dataclass(frozen=True)
class Stored:
    """An object as the store describes it."""

    key: str
    bytes: int
    etag: str | None


@dataclass(frozen=True)
class Block:
    """A range of an object's bytes, and the SHA-256 that the object carries, if any."""

    content: bytes
    sha256: str | None


class S3Objects:
    """Every call raises StorageAway when the store does not do as asked within `patience`."""

    def __init__(self, url: str, patience: Patience) -> None:
        place = S3Place.parse(url)
        self._prefix = f"{place.prefix}/" if place.prefix else ""
        self._store = connect(place, patience)
        self._probed = connect(place, NO_PATIENCE)

    def put(self, local: Path, key: str, sha256: str) -> None:
        """Store a file under a key, in parts when it is large; it appears whole or not at all."""
        size = local.stat().st_size
        with errors_told(key):
            obstore.put(
                self._store,
                self._name(key),
                local,
                attributes={DIGEST: sha256},
                chunk_size=max(PART_BYTES, -(-size // MOST_PARTS)),
                max_concurrency=PARTS_AT_ONCE,
            )

    def look(self, key: str) -> Stored:
        """Raises FileNotFoundError."""
        with errors_told(key):
            meta = obstore.head(self._store, self._name(key))
        return Stored(key, meta["size"], meta["e_tag"])

    def block(self, key: str, start: int, end: int, *, etag: str | None = None) -> Block:
        """Bytes from `start` up to, but without, `end`. Raises FileNotFoundError.

        With an `etag`, an object that was replaced meanwhile is a StorageAway: to be read again.
        """
        options: GetOptions = {"if_match": etag} if etag else {}
        if start < end:
            options["range"] = (start, end)
        with errors_told(key):
            found = obstore.get(self._store, self._name(key), options=options)
            return Block(bytes(found.bytes()), found.attributes.get(DIGEST))

    def listed(self, prefix: str) -> Iterator[Stored]:
        """Every object below a folder, in no order; probes are passed over."""
        whole = self._name(f"{prefix}/" if prefix else "")
        with errors_told(prefix):
            for page in obstore.list(self._store, whole or None, chunk_size=LIST_KEYS):
                for meta in page:
                    key = meta["path"].removeprefix(self._prefix)
                    if not key.startswith(PROBE):
                        yield Stored(key, meta["size"], meta["e_tag"])

    def delete(self, keys: Iterable[str]) -> None:
        """What is not there is no error."""
        names = [self._name(key) for key in keys]
        if names:
            with errors_told(names[0]):
                obstore.delete(self._store, names)

    def probe(self) -> None:
        """Store something and remove it, without patience."""
        name = self._name(f"{PROBE}{socket.gethostname()}-{os.getpid()}")
        with errors_told(name):
            obstore.put(self._probed, name, b"")
            obstore.delete(self._probed, name)

    def _name(self, key: str) -> str:
        return self._prefix + key
