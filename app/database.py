"""The database: two kinds of session, use-cases that are tried again, and migrations."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.database_errors import AWAY, was_undone
from app.engines import open_engine, reader_of

log = logging.getLogger("cellgraft.database")

Result = TypeVar("Result")
START_SECONDS = 30
AGAIN_SECONDS = 0.1

_MIGRATION_LOCK = 0x63656C6C  # any number, the same in every process


class Database:
    """The engine, and the two kinds of session.

    SQLite lets one writer in at a time. A transaction that reads first and writes later fails
    with "database is locked" when another got in between; one that begins as a writer waits its
    turn. So `writing` sessions begin IMMEDIATE, and `reading` sessions never write.

    PostgreSQL lets many in. `writing` sessions see what is committed meanwhile, and lock the rows
    that they depend on; `reading` sessions see one moment, as with SQLite.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._reader = reader_of(self.engine)

    def writing(self) -> Session:
        return Session(self.engine, expire_on_commit=False)

    def reading(self) -> Session:
        return Session(self._reader, expire_on_commit=False)

    def write(self, use_case: Callable[[Session], Result]) -> Result:
        """Run a use-case, once more when the database undid it for another's sake.

        For use-cases that change the database alone: what they did to files is not undone.
        """
        try:
            with self.writing() as session:
                return use_case(session)
        except DBAPIError as error:
            if not was_undone(error):
                raise
        time.sleep(AGAIN_SECONDS)  # the other one goes first, or the two would meet again
        with self.writing() as session:
            return use_case(session)

    def migrate(self) -> None:
        """Bring the tables to the newest form; several processes may do so at once.

        Waits for a server that is not there yet: parts that start together come up in any order.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self._migrate()
            except AWAY as error:
                if self.engine.dialect.name == "sqlite" or time.monotonic() > deadline:
                    raise
                log.warning("waiting for the database: %s", getattr(error, "orig", error))
                time.sleep(1)

    def _migrate(self) -> None:
        with self.engine.connect() as connection:
            if _is_current(connection):
                return
        with self.changing_tables() as connection:
            if connection.dialect.name == "postgresql":
                _take_migration_lock(connection)
            command.upgrade(migration_config(connection), "head")

    @contextmanager
    def changing_tables(self) -> Iterator[Connection]:
        """A transaction that may put another table in the place of one that others point at.

        SQLite changes a column in no other way, and looks after its foreign keys only at the end.
        """
        with self.engine.connect() as connection:
            if connection.dialect.name != "sqlite":
                with connection.begin():
                    yield connection
                return
            # In a transaction this would be without effect.
            driver: Any = connection.connection.dbapi_connection
            driver.execute("PRAGMA foreign_keys = OFF")
            try:
                with connection.begin():
                    yield connection
                    if connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                        raise RuntimeError("a migration left rows that point at nothing")
            finally:
                driver.execute("PRAGMA foreign_keys = ON")

    def close(self) -> None:
        self.engine.dispose()


def migration_config(connection: Any) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _take_migration_lock(connection: Connection) -> None:
    """Wait for a migration of another process, and then for whatever ours takes."""
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(text(f"SET LOCAL {limit} = 0"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})


def _is_current(connection: Any) -> bool:
    script = ScriptDirectory.from_config(migration_config(connection))
    heads = set(MigrationContext.configure(connection).get_current_heads())
    return heads == set(script.get_heads())
