"""Objects of one bucket below a prefix: the requests that the storage is made of."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore

from app.s3_connection import Patience, S3Place, ask, connect

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

PART_BYTES = 8 * 1024 * 1024
PARTS_AT_ONCE = 2
MOST_PARTS = 9_000
"""The protocol allows 10,000."""
LIST_KEYS = 1000
DIGEST = "sha256"
"""The metadata under which every object carries the SHA-256 of its bytes."""
PROBE = ".probe-"
T = TypeVar("T")


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
        self._patience = patience
        self._store = connect(place, patience)

    def put(self, local: Path, key: str, sha256: str) -> None:
        """Store a file under a key, in parts when it is large; it appears whole or not at all."""
        size = local.stat().st_size
        self._ask(
            key,
            lambda: obstore.put(
                self._store,
                self._name(key),
                local,
                attributes={DIGEST: sha256},
                chunk_size=max(PART_BYTES, -(-size // MOST_PARTS)),
                max_concurrency=PARTS_AT_ONCE,
            ),
        )

    def look(self, key: str) -> Stored:
        """Raises FileNotFoundError."""
        meta = self._ask(key, lambda: obstore.head(self._store, self._name(key)))
        return Stored(key, meta["size"], meta["e_tag"])

    def block(self, key: str, start: int, end: int, *, etag: str | None = None) -> Block:
        """Bytes from `start` up to, but without, `end`. Raises FileNotFoundError.

        With an `etag`, an object that was replaced meanwhile is a StorageAway: to be read again.
        """
        options: GetOptions = {"if_match": etag} if etag else {}
        if start < end:
            options["range"] = (start, end)

        def get() -> Block:
            found = obstore.get(self._store, self._name(key), options=options)
            return Block(bytes(found.bytes()), found.attributes.get(DIGEST))

        return self._ask(key, get)

    def listed(self, prefix: str) -> list[Stored]:
        """Every object below a folder, by key; probes are passed over."""
        whole = self._name(f"{prefix}/" if prefix else "") or None

        def all_pages() -> list[ObjectMeta]:
            pages = obstore.list(self._store, whole, chunk_size=LIST_KEYS)
            return [meta for page in pages for meta in page]

        found = [
            Stored(meta["path"].removeprefix(self._prefix), meta["size"], meta["e_tag"])
            for meta in self._ask(prefix, all_pages)
        ]
        shown = (stored for stored in found if not stored.key.startswith(PROBE))
        return sorted(shown, key=lambda stored: stored.key)

    def delete(self, keys: Iterable[str]) -> None:
        """What is not there is no error."""
        names = [self._name(key) for key in keys]
        if names:
            self._ask(names[0], lambda: obstore.delete(self._store, names))

    def changed_at(self, key: str) -> float:
        """When the object was stored, or its upload in parts begun. Raises FileNotFoundError."""
        meta = self._ask(key, lambda: obstore.head(self._store, self._name(key)))
        return meta["last_modified"].timestamp()

    def clock(self) -> float:
        """Store something to see when that is, and remove it."""
        key = f"{PROBE}{uuid.uuid4().hex}"
        self._ask(key, lambda: obstore.put(self._store, self._name(key), b""))
        try:
            return self.changed_at(key)
        finally:
            self.delete([key])

    def probe(self) -> None:
        """Store something and remove it."""
        name = self._name(f"{PROBE}{socket.gethostname()}-{os.getpid()}")
        self._ask(name, lambda: obstore.put(self._store, name, b""))
        self._ask(name, lambda: obstore.delete(self._store, name))

    def _ask(self, key: str, request: Callable[[], T]) -> T:
        return ask(key, self._patience, request)

    def _name(self, key: str) -> str:
        return self._prefix + key
