"""A migrated database for each test: made once, then copied."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from app.database import Database

TEST_URL = os.environ.get("CELLGRAFT_TEST_DATABASE_URL")


@pytest.fixture(scope="session")
def database_template(tmp_path_factory: pytest.TempPathFactory) -> Path | str:
    """An SQLite file, or the name of a PostgreSQL database, with all tables and no rows."""
    if TEST_URL is not None:
        return _postgresql_template()
    path = tmp_path_factory.mktemp("template") / "cellgraft.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()  # the last connection folds the write-ahead log into the file
    return path


@pytest.fixture
def database_url(database_template: Path | str, tmp_path: Path) -> Iterator[str]:
    if isinstance(database_template, Path):
        path = tmp_path / "cellgraft.db"
        shutil.copyfile(database_template, path)
        yield f"sqlite:///{path}"
        return
    name = f"test_{uuid.uuid4().hex}"
    _administer(f'CREATE DATABASE "{name}" TEMPLATE "{database_template}"')
    yield make_url(TEST_URL).set(database=name).render_as_string(hide_password=False)
    _administer(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


def _postgresql_template() -> str:
    name = f"template_{uuid.uuid4().hex}"
    _administer(f'CREATE DATABASE "{name}"')
    url = make_url(TEST_URL).set(database=name).render_as_string(hide_password=False)
    database = Database(url)
    database.migrate()
    database.close()
    return name


def _administer(statement: str) -> None:
    engine = create_engine(TEST_URL, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
