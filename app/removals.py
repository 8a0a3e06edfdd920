"""What a store that is away is to lose: noted on the disk, and removed when it is back."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from app.problems import StorageAway

log = logging.getLogger("cellgraft.storage")

LONGEST_PAUSE_SECONDS = 30.0


class Removals:
    """Notes in a folder, one a prefix, and a thread for as long as there are any.

    Safe because no prefix is ever used again once it has been given up. Several processes may
    share the folder: removing twice is no error.
    """

    def __init__(
        self, folder: Path, remove: Callable[[str], None], *, first_pause_seconds: float = 1.0
    ) -> None:
        self._folder = folder
        self._remove = remove
        self._first_pause = first_pause_seconds
        self._lock = threading.Lock()
        self._working = False
        if self._notes():  # of a process that ended before the store was back
            self._start()

    def note(self, prefix: str) -> None:
        """Returns when the note is durable."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / hashlib.sha256(prefix.encode()).hexdigest()
        part = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
        with part.open("w") as file:
            file.write(prefix)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        self._start()

    def _start(self) -> None:
        with self._lock:
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="removals", daemon=True).start()

    def _work(self) -> None:
        pause = self._first_pause
        while self._is_needed():
            time.sleep(pause)
            try:
                for note in self._notes():
                    self._remove(note.read_text())
                    note.unlink(missing_ok=True)
                pause = self._first_pause
            except (StorageAway, OSError) as error:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                log.warning("removals wait %.0f s more: %s", pause, error)

    def _is_needed(self) -> bool:
        # Under the lock, or a note made at this moment would find a thread that is just ending.
        with self._lock:
            self._working = bool(self._notes())
            return self._working

    def _notes(self) -> list[Path]:
        return [path for path in self._folder.glob("*") if path.suffix != ".part"]
