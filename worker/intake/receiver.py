"""The trusted end of the pipe: frames become files, and nothing in them is taken on faith."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from worker.intake.frames import (
    DATA,
    FAULT,
    FILES,
    HEADER,
    LONGEST_FRAME,
    LONGEST_OUTCOME,
    PROBLEM,
    PROGRESS,
    REPORT,
    RESTART,
    Sink,
)
from worker.names import readable

LONGEST = {
    DATA: LONGEST_FRAME,
    PROGRESS: 8,
    REPORT: LONGEST_OUTCOME,
    PROBLEM: LONGEST_OUTCOME,
    FAULT: LONGEST_FRAME,
    RESTART: 0,
}


class BrokenStream(Exception):
    """The stream is not one that our own check writes: the checking process was damaged."""


class Receiver:
    """Takes the bytes of a stream as they come."""

    def __init__(self, folder: Sink, files: Sequence[str] = FILES) -> None:
        self.folder, self.files = folder, files
        self.progress = 0.0
        self.outcome: tuple[int, dict[str, Any]] | None = None
        self._pending = bytearray()

    def feed(self, data: bytes) -> None:
        """Raises BrokenStream, and FileTooLarge when the folder's quota is spent."""
        self._pending += data
        start = 0
        with memoryview(self._pending) as pending:
            while len(pending) - start >= HEADER.size:
                kind, file, size = HEADER.unpack_from(pending, start)
                if self.outcome or size > LONGEST.get(kind, -1) or file >= len(self.files):
                    raise BrokenStream(f"frame {kind} of {size} bytes")
                end = start + HEADER.size + size
                if len(pending) < end:
                    break
                with pending[start + HEADER.size : end] as payload:
                    self._take(kind, self.files[file], payload)
                start = end
        del self._pending[:start]

    def _take(self, kind: int, name: str, payload: memoryview) -> None:
        if kind == DATA:
            self.folder.write(name, payload)
            return
        if kind == RESTART:
            self.folder.restart()
            return
        try:
            if kind == PROGRESS:
                self.progress = min(max(float(struct.unpack("<d", payload)[0]), 0.0), 1.0)
                return
            self.outcome = (kind, dict(_readable(json.loads(bytes(payload)))))
        except (struct.error, ValueError, TypeError, RecursionError) as error:
            raise BrokenStream(f"frame {kind} cannot be read") from error


def _readable(value: Any) -> Any:
    """The same JSON with text that can be stored and answered: a file chose some of its names."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, list):
        return [_readable(each) for each in value]
    if isinstance(value, dict):
        return {readable(key): _readable(each) for key, each in value.items()}
    return value
