"""A migrated database for each test: made once, then copied. Tests that ask for one run twice,
on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from app.database import Database

from .postgresql import SPEED, Databases, find_programs, own_server

POSTGRES_URL = os.environ.get("CELLGRAFT_TEST_POSTGRES_URL")


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """The folder of PostgreSQL's programs."""
    found = find_programs()
    if found is None:
        missing("PostgreSQL: install it, or name a server by CELLGRAFT_TEST_POSTGRES_URL")
    return found


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """PostgreSQL, at the URL that was given or as a server of this session."""
    if POSTGRES_URL is not None:
        yield Databases(POSTGRES_URL)
        return
    programs = request.getfixturevalue("postgres_programs")
    with own_server(programs, options=SPEED) as server:
        yield Databases(server.url)


@pytest.fixture(scope="session")
def postgresql_template(databases: Databases) -> Iterator[str]:
    """The name of a database with all tables and no rows."""
    name = databases.create()
    _migrate(databases.url_of(name))
    yield name
    databases.drop(name)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables and no rows."""
    path = tmp_path_factory.mktemp("template") / "cellgraft.db"
    _migrate(f"sqlite:///{path}")  # the last connection folds the write-ahead log into the file
    return path


@pytest.fixture
def postgresql_url(databases: Databases, postgresql_template: str) -> Iterator[str]:
    name = databases.create(postgresql_template)
    yield databases.url_of(name)
    databases.drop(name)


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "cellgraft.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


def missing(what: str) -> NoReturn:
    """Skip for want of a server; where everything has to be tested, that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"not found: {what}")
    pytest.skip(f"NOT TESTED, not found: {what}")


def _migrate(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.close()
