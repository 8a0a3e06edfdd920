"""The stream from a check to its parent: canonical files in pieces, progress, and the outcome."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

FILES = ("indptr.npy", "indices.npy", "data.npy", "genes.json", "obs.arrow", "canonical.json")
"""The only names a frame can carry: it carries a position in this tuple."""

HEADER = struct.Struct("<BBI")
"""Kind, file, bytes that follow."""
DATA, PROGRESS, REPORT, PROBLEM, FAULT, RESTART = range(6)
UNPREPARED = 3
"""How a check exits that could not open its file, whatever is in it."""
LONGEST_FRAME = 4 * 1024**2
LONGEST_OUTCOME = 64 * 1024**2


class Sink(Protocol):
    """Where a check writes the canonical query."""

    def write(self, name: str, data: Any) -> None:
        """Append bytes (anything with the buffer protocol) to a file."""

    def progress(self, fraction: float) -> None:
        """Tell how far the check has come."""

    def restart(self) -> None:
        """Forget what was written of the matrix: another one follows."""


class NoSink:
    """For a file that is refused already, and read on only to tell everything."""

    def write(self, name: str, data: Any) -> None:
        return None

    def progress(self, fraction: float) -> None:
        return None

    def restart(self) -> None:
        return None


class FrameWriter:
    """A sink that writes frames to a pipe; the sandbox can write to nothing else."""

    def __init__(self, descriptor: int, files: Sequence[str] = FILES) -> None:
        self.descriptor, self.files = descriptor, files
        self._told = -1.0

    def write(self, name: str, data: Any) -> None:
        view = memoryview(data).cast("B") if memoryview(data).nbytes else memoryview(b"")
        for start in range(0, len(view), LONGEST_FRAME):
            self._send(DATA, self.files.index(name), view[start : start + LONGEST_FRAME])

    def progress(self, fraction: float) -> None:
        if fraction - self._told >= 0.01:
            self._told = fraction
            self._send(PROGRESS, 0, struct.pack("<d", fraction))

    def restart(self) -> None:
        self._told = -1.0
        self._send(RESTART, 0, b"")

    def finish(self, kind: int, outcome: Mapping[str, Any]) -> None:
        """The last frame: the report, the problem, or the traceback of a fault of ours."""
        self._send(kind, 0, json.dumps(outcome, ensure_ascii=True).encode())

    def _send(self, kind: int, file: int, payload: bytes | memoryview) -> None:
        self._write_all(HEADER.pack(kind, file, len(payload)))
        self._write_all(payload)

    def _write_all(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.descriptor, view) :]
