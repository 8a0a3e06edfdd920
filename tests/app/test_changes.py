"""Whoever asks hears of every commit but its own silence, without a look at a row."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from app.changes import Changes
from app.database import Database
from app.storage import LocalStorage
from tests.app.factories import uploaded


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_commit_is_heard_of_once(database: Database, storage: LocalStorage) -> None:
    changes = Changes(database)
    assert changes.seen()  # what came before is news as well
    assert not changes.seen()
    uploaded(database, storage)
    assert changes.seen()
    with database.reading() as session:
        session.execute(text("SELECT count(*) FROM jobs"))
    with database.writing() as session:  # nothing is written
        session.execute(text("SELECT count(*) FROM jobs"))
    assert not changes.seen()
    uploaded(database, storage)
    changes.close()
    assert changes.seen()  # by another connection, which knows of nothing
    changes.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_where_there_is_no_telling_one_has_to_look(database: Database) -> None:
    changes = Changes(database)
    assert not changes.can_tell
    assert changes.seen()
    assert changes.seen()
    changes.close()
