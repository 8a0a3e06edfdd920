"""Files that the client sends: one as the body of a request, several as the parts of a form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import httpx

BLOCK = 1024 * 1024
Tell = Callable[[int], None]
Options = Mapping[str, str | list[str] | None]


def send_files(
    http: httpx.Client,
    path: str,
    files: Sequence[Path],
    *,
    options: Options,
    tell: Tell,
    named: bool = True,
) -> httpx.Response:
    """Send files; `tell` gets the number of bytes of each block that went.

    `named`: whether the address takes the name of a single file after a slash.
    """
    given = {name: value for name, value in options.items() if value}
    if len(files) > 1:
        with ExitStack() as stack:
            opened = [stack.enter_context(file.open("rb")) for file in files]
            parts = [
                ("file", (file.name, _Told(source, tell), "application/octet-stream"))
                for file, source in zip(files, opened, strict=True)
            ]
            return http.post(path, params=given, files=parts)  # type: ignore[arg-type]
    (file,) = files
    return http.put(
        f"{path}/{quote(file.name, safe='')}" if named else path,
        params=given,
        content=_blocks(file, tell),
        headers={
            "Content-Length": str(file.stat().st_size),
            "Content-Type": "application/octet-stream",
        },
    )


class _Told:
    """A file that says how much of it was read."""

    def __init__(self, file: BinaryIO, tell: Tell) -> None:
        self._file, self._tell = file, tell

    def fileno(self) -> int:
        """By which the length of the form is known before it is sent."""
        return self._file.fileno()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self._tell(len(block))
        return block


def _blocks(file: Path, tell: Tell) -> Iterator[bytes]:
    with file.open("rb") as source:
        while block := source.read(BLOCK):
            yield block
            tell(len(block))
