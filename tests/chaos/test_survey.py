"""The survey finds the same in a local folder and in an S3-compatible store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.database import Database
from app.storage import Storage, open_storage
from app.tables import Query, QueryMapping
from tests.app.factories import RESULTS, built, checked, mapped, published
from tests.app.object_store import new_place as new_place

from .checker import FoundMapping, FoundQuery
from .survey import survey, sweep

UPLOADED = hashlib.sha256(b"cells").hexdigest()
ENDS = ("map.succeeded",)


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    opened = Database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    local = request.param == "local"
    url = (tmp_path / "store").as_uri() if local else request.getfixturevalue("new_place")()
    return open_storage(url, cache=tmp_path / "cache", cache_bytes=10**6)


@pytest.fixture
def query(database: Database, storage: Storage) -> Query:
    built(database, storage)
    return checked(database, storage)


@pytest.fixture
def mapping(database: Database, storage: Storage, query: Query) -> QueryMapping:
    return mapped(database, storage, query)


def found_query(database: Database, storage: Storage, query: Query) -> FoundQuery:
    return survey(database, storage, {}, ()).queries[query.id]


def found_mapping(database: Database, storage: Storage, mapping: QueryMapping) -> FoundMapping:
    return survey(database, storage, {}, ()).mappings[mapping.id]


def test_bytes_are_those_in_the_store(database: Database, storage: Storage, query: Query) -> None:
    expected = FoundQuery("ready", UPLOADED, UPLOADED, ("check.succeeded",))
    assert found_query(database, storage, query) == expected
    storage.delete(query.storage_key)
    assert found_query(database, storage, query).stored_sha256 is None


def test_every_attempt_that_left_files_is_counted(
    database: Database, storage: Storage, mapping: QueryMapping
) -> None:
    assert found_mapping(database, storage, mapping) == FoundMapping(
        "", "succeeded", ENDS, 1, {}, {}
    )
    published(storage, f"mappings/{mapping.id}/2", {"latent.npy": b"late", "latent.csv": b"late"})
    assert found_mapping(database, storage, mapping).sets == 2


def test_a_sweep_takes_what_dead_attempts_left_and_tells_what_is_lost(
    database: Database, storage: Storage, mapping: QueryMapping
) -> None:
    published(storage, f"mappings/{mapping.id}/2", {"latent.npy": b"late", "latent.csv": b"late"})
    lost = f"mappings/{mapping.id}/1/latent.npy"
    storage.delete(lost)
    assert sweep(database, storage) == (2, (f"missing: {lost}",))
    assert found_mapping(database, storage, mapping).sets == 1
    left = {key.rpartition("/")[2] for key in storage.keys(f"mappings/{mapping.id}")}
    assert left == set(RESULTS) - {"latent.npy"}
