"""Files packed as tar or zip, read where they lie: nothing of them is ever written to a disk."""

from __future__ import annotations

import io
import posixpath
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from worker.intake.findings import Findings, located
from worker.intake.limits import Limits
from worker.intake.unpacking import Kind, Meter, Unpacked, archive_kind, unpacking
from worker.names import readable

PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".7z", ".rar")
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
PACK_PLAIN = "Pack plain files: `tar -czf query.tar.gz FOLDER`, with the three files in the folder."
Opened = AbstractContextManager[BinaryIO]


@dataclass(frozen=True)
class Member:
    """A regular file in an archive. The name is only ever compared and told."""

    name: str
    position: int

    @property
    def pointer(self) -> str:
        return f"/{readable(self.name)}"

    @property
    def base(self) -> str:
        return posixpath.basename(self.name)

    @property
    def is_junk(self) -> bool:
        """What a Mac adds to an archive."""
        return self.base.startswith("._") or self.base == ".DS_Store" or "__MACOSX" in self.name


@dataclass(frozen=True)
class Text:
    """A text file of an upload, wherever it lies; each `open` reads it from the start."""

    pointer: str
    open: Callable[[], Opened]


class Archive:
    """An upload that is packed. Its members are judged before one is read."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self.kind: Kind | None = archive_kind(path)

    def members(self, findings: Findings) -> list[Member]:
        """The regular files. Whatever else there is, and each name that could mislead, is told.

        Raises:
            Problem: the archive cannot be read to its end.
        """
        with unpacking("/"):
            found = _Judge(findings, self.limits)
            if self.kind == "zip":
                with zipfile.ZipFile(self.path) as archive:
                    for at, info in enumerate(archive.infolist()):
                        found.take_zipped(info, at)
            else:
                with self._tar() as tar:
                    for at, member in enumerate(tar):
                        found.take_archived(member, at)
            return found.members

    def text(self, member: Member) -> Text:
        return Text(member.pointer, lambda: self._open(member))

    @contextmanager
    def _open(self, member: Member) -> Iterator[BinaryIO]:
        with unpacking(member.pointer), self._raw(member) as raw:
            meter = Meter(self.path, self.limits)
            yield cast(BinaryIO, io.BufferedReader(Unpacked(raw, meter, member.pointer)))

    @contextmanager
    def _raw(self, member: Member) -> Iterator[BinaryIO]:
        if self.kind == "zip":
            with zipfile.ZipFile(self.path) as zipped:
                file = zipped.open(zipped.infolist()[member.position])
                with file:
                    yield cast(BinaryIO, file)
            return
        with self._tar() as tar:
            for at, info in enumerate(tar):
                if at == member.position:
                    yield cast(BinaryIO, tar.extractfile(info))
                    return

    @contextmanager
    def _tar(self) -> Iterator[tarfile.TarFile]:
        """As a stream: what is packed twice cannot be read at any place but the next."""
        with self.path.open("rb") as file:
            unpacked = Unpacked(file, Meter(self.path, self.limits), "/")
            stream = io.BufferedReader(unpacked, 1024 * 1024)
            with tarfile.open(fileobj=stream, mode="r|", bufsize=1024 * 1024) as tar:
                yield tar


class _Judge:
    """Looks at each member's name and kind."""

    def __init__(self, findings: Findings, limits: Limits) -> None:
        self.findings, self.limits = findings, limits
        self.members: list[Member] = []
        self._names: set[str] = set()

    def take_zipped(self, info: zipfile.ZipInfo, position: int) -> None:
        mode = info.external_attr >> 16
        kind = stat.S_IFMT(mode)
        name = info.orig_filename
        if info.flag_bits & 1:
            self._tell("archive-encrypted", name, "is encrypted", "Pack it without a password.")
        elif info.compress_type not in METHODS:
            self._tell("unknown-filter", name, "is compressed by a method other than deflate")
        elif kind == stat.S_IFLNK:
            self._tell("archive-link", name, "is a link")
        elif kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            self._tell("archive-device", name, "is a device or a pipe")
        self._take(name, position, is_folder=info.is_dir())

    def take_archived(self, info: tarfile.TarInfo, position: int) -> None:
        if info.issym() or info.islnk():
            self._tell("archive-link", info.name, "is a link")
        elif not info.isdir() and (not info.isreg() or info.issparse()):
            self._tell("archive-device", info.name, "is a device, a pipe, or a file with holes")
        self._take(info.name, position, is_folder=not info.isreg())

    def _take(self, name: str, position: int, *, is_folder: bool) -> None:
        if position >= self.limits.objects:
            raise located(
                "too-many-objects",
                "/",
                f"The archive holds more than {self.limits.objects:,} files.",
                PACK_PLAIN,
            )
        parts = name.rstrip("/").split("/")
        if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in parts[0]:
            self._tell("archive-path", name, "has a name that leads out of the archive")
        if is_folder:
            return
        member = Member(posixpath.normpath(name), position)
        if member.name in self._names:
            self._tell("archive-repeats", name, "is there twice")
        self._names.add(member.name)
        if member.is_junk:
            return
        if member.base.lower().endswith(PACKED):
            self._tell("archive-nested", name, "is an archive itself")
        self.members.append(member)

    def _tell(self, code: str, name: str, what: str, fix: str = PACK_PLAIN) -> None:
        shown = readable(name)[:200]
        self.findings.tell(code, f"/{shown.lstrip('/')}", f"{shown!r} {what}.", fix)


def loose_text(path: Path, pointer: str, limits: Limits) -> Text:
    """A file that was sent as it is, perhaps in gzip."""

    @contextmanager
    def open_() -> Iterator[BinaryIO]:
        with unpacking(pointer), path.open("rb") as file:
            yield cast(BinaryIO, io.BufferedReader(Unpacked(file, Meter(path, limits), pointer)))

    return Text(pointer, open_)
