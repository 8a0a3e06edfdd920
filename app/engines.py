"""How each kind of database is opened: what its connections are told, and how long they wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import make_url

BUSY_SECONDS = 30
"""How long a writer of SQLite waits for its turn."""
CONNECTIONS = 20
"""At most so many connections of one process to PostgreSQL; its own default is 100 in all."""
POOL_SECONDS = 10
LOCK_SECONDS = 10
STATEMENT_SECONDS = 30
IDLE_SECONDS = 60
"""A transaction that says nothing for so long is ended: its process hangs and holds locks."""


def open_engine(url: str) -> Engine:
    """An engine for an SQLite file or for PostgreSQL; nothing is connected yet."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed)
    if parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return _open_postgresql(parsed.set(drivername="postgresql+psycopg"))
    raise ValueError(
        f"a database of the kind {parsed.drivername!r} is not understood; use "
        "postgresql://USER:PASSWORD@HOST/NAME or sqlite:////A/FILE"
    )


def reader_of(engine: Engine) -> Engine:
    """The same engine for transactions that see one moment and cannot write."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(begin="DEFERRED")
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _open_sqlite(url: URL) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, pool_size=20, max_overflow=40, hide_parameters=True)
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


def _open_postgresql(url: URL) -> Engine:
    return create_engine(
        url,
        hide_parameters=True,  # they are users' data, and an error may be logged
        # Said, because a server may be set up with another default. Where a use-case depends on
        # a row that others may change, it locks that row.
        isolation_level="READ COMMITTED",
        pool_size=CONNECTIONS // 2,
        max_overflow=CONNECTIONS - CONNECTIONS // 2,
        pool_timeout=POOL_SECONDS,
        pool_pre_ping=True,  # a restarted server costs a ping, not a request
        pool_use_lifo=True,
        pool_recycle=1800,
        connect_args=_connection_options(url),
    )


def _connection_options(url: URL) -> dict[str, Any]:
    """What libpq is told, but for what the URL says itself; its `options` are said last and hold.

    Keepalives and `tcp_user_timeout` (milliseconds) find out that a server's machine is gone.
    """
    session = {
        "timezone": "UTC",
        "synchronous_commit": "on",  # an answer of 2xx must survive a power cut
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "lock_timeout": f"{LOCK_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
    }
    told = " ".join(f"-c {name}={value}" for name, value in session.items())
    ours = {
        "application_name": "cellgraft",
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    asked = str(url.query.get("options", ""))
    missing = {name: value for name, value in ours.items() if name not in url.query}
    return {**missing, "options": f"{told} {asked}".strip()}
