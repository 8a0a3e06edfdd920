"""The history: a line for everything that a client was told, written before it goes on."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

ANSWERS = {"uploaded", "submitted", "seen"}


class History:
    """Appended to by every client; outlives whatever stops the suite."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers = 0
        """How often a client was told something."""
        self._lock = threading.Lock()

    def note(self, kind: str, **facts: Any) -> None:
        line = json.dumps({"kind": kind, "at": round(time.time(), 3), **facts})
        with self._lock, self.path.open("a") as file:
            file.write(f"{line}\n")
            self.answers += kind in ANSWERS

    def entries(self) -> list[dict[str, Any]]:
        with self._lock:
            return [json.loads(line) for line in self.path.read_text().splitlines()]
