"""Whether somebody has written to the database: with SQLite, far cheaper than a look at it."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

from app.database import Database

GLANCE_SECONDS = 0.02
"""How often one may ask: it takes some microseconds, and no lock that a writer would wait for."""


class Changes:
    """What one asker has not heard of. Any thread may ask."""

    def __init__(self, database: Database) -> None:
        self.can_tell = database.engine.dialect.name == "sqlite"
        """Whether asking is cheaper than looking."""
        self._engine = database.engine
        self._asking = threading.Lock()
        self._connection: Any = None
        self._version: int | None = None

    def seen(self) -> bool:
        """Whether there was a commit since this was last asked; yes, where there is no telling."""
        if not self.can_tell:
            return True
        with self._asking:
            try:
                version = self._read()
            except sqlite3.Error:
                return True  # whoever then looks is told what is wrong
            changed, self._version = version != self._version, version
        return changed

    def close(self) -> None:
        with self._asking:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _read(self) -> int:
        # The number is about one connection: it changes with the commits of all the others.
        if self._connection is None:
            self._connection = self._engine.raw_connection()
            self._version = None
        row = self._connection.cursor().execute("PRAGMA data_version").fetchone()
        return int(row[0])
