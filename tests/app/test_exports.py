"""What an export starts from: a mapping that exists and has results."""

from __future__ import annotations

import pytest

from app.database import Database
from app.exports import describe_export
from app.problems import MappingNotFinished, UnknownMapping
from app.storage import LocalStorage

from .factories import asked, built, checked, mapped


def test_a_finished_mapping_tells_where_its_files_are(
    database: Database, storage: LocalStorage
) -> None:
    version = built(database, storage)
    query = checked(database, storage)
    mapping = mapped(database, storage, query)
    with database.reading() as session:
        work = describe_export(session, mapping.id)
    assert work.results_prefix == f"mappings/{mapping.id}/1"
    assert work.mapping.canonical_prefix == query.canonical_prefix
    assert work.mapping.reference_prefix == version.bundle_prefix


def test_a_mapping_without_results_is_refused(database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    with database.reading() as session, pytest.raises(MappingNotFinished):
        describe_export(session, mapping.id)


def test_a_mapping_that_does_not_exist_is_refused(database: Database) -> None:
    with database.reading() as session, pytest.raises(UnknownMapping, match="'nonsense'"):
        describe_export(session, "nonsense")
