"""The files that one query was sent in: where each is kept, and what they are called together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.staging import StagedFile
from app.storage import Storage
from app.tables import Query

LONGEST_FIRST_NAME = 200
"""What follows it must fit into the column as well."""


@dataclass(frozen=True)
class StoredPart:
    """A file in the store."""

    key: str
    filename: str
    bytes: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class StagedPart:
    """A file that came with others."""

    staged: StagedFile
    filename: str


def store_parts(storage: Storage, prefix: str, parts: Sequence[StagedPart]) -> list[StoredPart]:
    """Keep each file under a key that its place among the others makes its own: the same file may
    have been sent twice. The first alone keeps the key that it would have without others."""
    stored = []
    for number, part in enumerate(parts, 1):
        folder = prefix if number == 1 else f"{prefix}/part-{number}"
        key = f"{folder}/{part.staged.sha256}.h5ad"
        storage.publish_file(part.staged.path, key, sha256=part.staged.sha256)
        stored.append(StoredPart(key, part.filename, part.staged.bytes, part.staged.sha256))
    return stored


def joint_digest(parts: Sequence[StoredPart]) -> str:
    """The SHA-256 of one file; of several that of their SHA-256s, one a line in hexadecimal.

    `sha256sum FILE... | cut -c1-64 | sha256sum` gives the same.
    """
    if len(parts) == 1:
        return parts[0].sha256
    lines = "".join(f"{part.sha256}\n" for part in parts)
    return hashlib.sha256(lines.encode()).hexdigest()


def joint_name(parts: Sequence[StoredPart]) -> str:
    first, more = parts[0].filename, len(parts) - 1
    return first if not more else f"{first[:LONGEST_FIRST_NAME]} and {more} more"


def parts_of(query: Query) -> list[StoredPart]:
    """The files of a query in their order: one, unless it was sent in several."""
    if query.parts is None:
        return [StoredPart(query.storage_key or "", query.filename, query.bytes, query.sha256)]
    return [StoredPart(**part) for part in query.parts]
