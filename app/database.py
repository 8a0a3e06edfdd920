"""Opening the database: one engine, writers that queue instead of failing, and migrations."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from app.problems import DiskFull, Problem, ServiceBusy

log = logging.getLogger("cellgraft.database")

AWAY = (OperationalError, InterfaceError, PoolTimeout)
"""What is raised while the database cannot be reached or does not answer in time."""
BUSY_SECONDS = 30
_MIGRATION_LOCK = 0x63656C6C  # any number, the same in every process


class Database:
    """The engine, and the two kinds of session.

    SQLite lets one writer in at a time. A transaction that reads first and writes later fails
    with "database is locked" when another got in between; one that begins as a writer waits its
    turn. So `writing` sessions begin IMMEDIATE, and `reading` sessions never write.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._reader = self.engine.execution_options(begin="DEFERRED")

    def writing(self) -> Session:
        return Session(self.engine, expire_on_commit=False)

    def reading(self) -> Session:
        return Session(self._reader, expire_on_commit=False)

    def migrate(self) -> None:
        """Bring the tables to the newest form; several processes may do so at once."""
        with self.engine.connect() as connection:
            if _is_current(connection):
                return
        with self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK}
                )
            command.upgrade(migration_config(connection), "head")

    def close(self) -> None:
        self.engine.dispose()


def database_away(error: Exception) -> Problem:
    """What to answer to one of `AWAY`."""
    log.error("the database did not answer: %s", type(getattr(error, "orig", error)).__name__)
    if "disk is full" in str(error):
        return DiskFull(
            "The disk is full; nothing was recorded.",
            fix="Free some space, then send the request again.",
        )
    problem = ServiceBusy(
        "The database did not answer in time; nothing was recorded.",
        fix="Send the request again in a few seconds.",
    )
    problem.headers["Retry-After"] = "5"
    return problem


def migration_config(connection: Any) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _is_current(connection: Any) -> bool:
    script = ScriptDirectory.from_config(migration_config(connection))
    heads = set(MigrationContext.configure(connection).get_current_heads())
    return heads == set(script.get_heads())


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_size=20, max_overflow=40, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, pool_size=20, max_overflow=40)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, in `_begin_sqlite`
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_SECONDS * 1000}",
        "journal_mode = WAL",
        "synchronous = FULL",  # an answer of 2xx must survive a power cut
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    mode = connection.get_execution_options().get("begin", "IMMEDIATE")
    connection.exec_driver_sql(f"BEGIN {mode}")
