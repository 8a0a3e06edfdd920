"""The form of a reference file: a tar with nothing in it that this module would not write.

cgref.json       name, version, the manifest's digest, size and SHA-256 of every file below
signature.json   of cgref.json; absent from an unsigned file
manifest.json    and the bundle's other files in the order of their names

A reader that compares each header with the one that it would have written itself leaves no room
for links, devices, paths, extended headers or whatever else a tar may hold.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.problems import InvalidReferenceFile
from models_store.manifest import MANIFEST_FILE, NAME_PATTERN, Sha256

CONTENTS, SIGNATURE = "cgref.json", "signature.json"
BLOCK = 512
END = bytes(2 * BLOCK)
READ_BLOCK = 1024 * 1024
LARGEST_TEXT = 1024 * 1024
LARGEST_MANIFEST = 256 * 1024 * 1024
LARGEST_FILE = 1024**4
MOST_FILES = 64

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,98}$")]
HexBytes = Annotated[str, Field(pattern=r"^[0-9a-f]{64,128}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Entry(_Strict):
    bytes: int = Field(ge=0, le=LARGEST_FILE)
    sha256: Sha256


class Contents(_Strict):
    """What cgref.json says. Its bytes are what a signature is of."""

    format: Literal["cellgraft-reference"] = "cellgraft-reference"
    format_version: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    version: int = Field(gt=0, lt=2**63)
    manifest_sha256: Sha256
    files: Mapping[FileName, Entry] = Field(min_length=1, max_length=MOST_FILES)

    @property
    def total_bytes(self) -> int:
        return sum(entry.bytes for entry in self.files.values())

    @property
    def names(self) -> list[str]:
        """The manifest first: what comes after it is described by it."""
        return [MANIFEST_FILE, *sorted(name for name in self.files if name != MANIFEST_FILE)]


class SignatureText(_Strict):
    algorithm: Literal["ed25519"] = "ed25519"
    public_key: HexBytes
    signature: HexBytes


def packed(text: BaseModel) -> bytes:
    """The one way in which this text is written."""
    return json.dumps(text.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()


class ArchiveWriter:
    """Writes members one after the other; the same members give the same bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, name: str, size: int, blocks: Iterable[bytes]) -> str:
        """Returns the SHA-256 of what was written. Raises ValueError when it is not `size` long."""
        self._file.write(_header(name, size))
        digest, written = hashlib.sha256(), 0
        for block in blocks:
            self._file.write(block)
            digest.update(block)
            written += len(block)
        if written != size:
            raise ValueError(f"{name} has {written} bytes, not {size}")
        self._file.write(bytes(-size % BLOCK))
        return digest.hexdigest()

    def end(self) -> None:
        self._file.write(END)


class ArchiveReader:
    """Reads what `ArchiveWriter` writes. Every method raises InvalidReferenceFile."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.contents_text = self._text(CONTENTS, self._next())
        self.contents = _understood(Contents, self.contents_text)
        if MANIFEST_FILE not in self.contents.files or {CONTENTS, SIGNATURE} & {
            *self.contents.files
        }:
            raise _invalid("it lists files that no reference has, or no manifest")
        self._ahead = self._next()
        self.signature: SignatureText | None = None
        if self._ahead[0] == SIGNATURE:
            self.signature = _understood(SignatureText, self._text(SIGNATURE, self._ahead))
            self._ahead = self._next()

    @classmethod
    def is_one(cls, path: Path) -> bool:
        """Whether a file begins as such an archive does, by which a command tells what it got."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(BLOCK)
        return start.startswith(CONTENTS.encode() + b"\0") and start[257:262] == b"ustar"

    def unpack(self, folder: Path) -> Self:
        """Write every file that the contents list into an empty folder, and nothing else.

        Raises:
            InvalidReferenceFile: something is missing, damaged, or not listed.
        """
        for name in self.contents.names:
            self._unpack(name, folder / name)
            self._ahead = self._next()
        if self._ahead[0] is not None:
            raise _invalid(f"it holds {self._ahead[0]!r}, which its contents do not list")
        if self._file.read(1):
            raise _invalid("something follows its end")
        return self

    def _unpack(self, name: str, target: Path) -> None:
        entry = self.contents.files[name]
        if self._ahead != (name, entry.bytes):
            raise _invalid(f"where {name} of {entry.bytes} bytes should come, it does not")
        digest = hashlib.sha256()
        with target.open("xb") as file:

            def take(block: bytes) -> None:
                file.write(block)
                digest.update(block)

            self._copy(entry.bytes, take)
        if digest.hexdigest() != entry.sha256:
            raise _invalid(f"{name} is not what the contents say: its SHA-256 differs")

    def _copy(self, size: int, take: Callable[[bytes], None]) -> None:
        left = size
        while left:
            block = self._file.read(min(READ_BLOCK, left))
            if not block:
                raise _invalid("it ends in the middle of a file")
            take(block)
            left -= len(block)
        if self._file.read(-size % BLOCK).strip(b"\0"):
            raise _invalid("something hides between its files")

    def _next(self) -> tuple[str | None, int]:
        """Name and size of the next member; None at the end."""
        header = self._file.read(BLOCK)
        if header == END[:BLOCK]:
            if self._file.read(BLOCK) != END[:BLOCK]:
                raise _invalid("its end is damaged")
            return None, 0
        if len(header) < BLOCK:
            raise _invalid("it ends too early")
        try:
            found = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        except (UnicodeDecodeError, tarfile.HeaderError) as error:
            raise _invalid("one of its headers cannot be read") from error
        name, size = found.name, found.size
        if not 0 <= size <= LARGEST_FILE or header != _header(name, size):
            raise _invalid(
                f"{name!r} is a link, a device, a path, or otherwise not as this service writes it"
            )
        return name, size

    def _text(self, name: str, found: tuple[str | None, int]) -> bytes:
        if found[0] != name or found[1] > LARGEST_TEXT:
            raise _invalid(f"it does not begin with a {name} of reasonable size")
        parts: list[bytes] = []
        self._copy(found[1], parts.append)
        return b"".join(parts)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size  # TarInfo's defaults: a regular file, mode 0644, no owner, no time
    return member.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


def _understood(kind: Any, text: bytes) -> Any:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        what = CONTENTS if kind is Contents else SIGNATURE
        raise _invalid(f"{what} is not as this version writes it") from error


def _invalid(how: str) -> InvalidReferenceFile:
    return InvalidReferenceFile(
        f"This is no reference file that can be trusted to be whole: {how}.",
        fix="Export it again with `cellgraft references export`, and compare the copies.",
    )
