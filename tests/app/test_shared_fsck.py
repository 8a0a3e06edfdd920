"""`fsck --repair` where others, whom it cannot see, store files and record them a moment later."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from app.database import Database
from app.fsck import IN_FLIGHT_SECONDS, check_everything, in_flight, repair
from app.queries import store_query
from app.settings import Settings
from app.storage import LocalStorage, Storage, open_storage

from .factories import published, staged_file, uploaded
from .live import environment, serving
from .object_store import NewPlace

Command = Callable[..., str]


@pytest.fixture
def database_url(postgresql_url: str) -> str:
    return postgresql_url


@pytest.fixture(params=["folder", "s3"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return (tmp_path / "shared").as_uri()
    new_place: NewPlace = request.getfixturevalue("new_place")
    return new_place()


@pytest.fixture
def storage(storage_url: str, tmp_path: Path) -> Storage:
    return open_storage(storage_url, cache=tmp_path / "cache", cache_bytes=10**9)


@pytest.fixture
def fsck(database_url: str, storage_url: str, tmp_path: Path) -> Command:
    """Runs `cellgraft fsck` with a data folder of its own; what it said."""
    folder = tmp_path / "administrator"
    folder.mkdir()
    places = {"database_url": database_url, "storage_url": storage_url}

    def run(*arguments: str, code: int, **settings: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", "fsck", *arguments],
            env=environment(folder, 1, **places | settings),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_an_upload_that_is_not_recorded_yet_survives_a_repair(
    fsck: Command, database: Database, storage: Storage
) -> None:
    with TemporaryDirectory() as folder, database.writing() as session:
        query = store_query(
            session,
            owner="local",
            staged=staged_file(Path(folder)),
            storage=storage,
            filename="sample.h5ad",
            options={},
            external_id=None,
            tags=(),
            max_attempts=1,
        )
        uploaded(database, storage)  # so that the database speaks of something
        told = fsck("--repair", code=1)
        session.commit()
    assert f"orphan: {query.storage_key}" in told
    assert "Removed 0 orphans." in told
    assert "Kept 1 that are younger than 24 hours" in told
    assert "agree" in fsck(code=0)


def test_an_upload_of_an_api_elsewhere_survives_a_repair(
    fsck: Command, database_url: str, storage_url: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    sample = tmp_path / "sample.h5ad"
    sample.write_bytes(b"cells" * 100)
    with serving(elsewhere, database_url=database_url, storage_url=storage_url) as live:
        sent = [live.curl("-T", str(sample), f"{live.url}/v1/queries/")[0] for _ in range(3)]
        assert sent == [201] * 3
        assert "Removed 0 orphans." in fsck("--repair", code=0)


def test_what_was_stored_a_day_before_the_check_is_removed(
    database: Database, storage: Storage
) -> None:
    kept = uploaded(database, storage)
    published(storage, "mappings/m/7", {"latent.csv": b"late"})
    with database.reading() as session:
        findings = check_everything(session, storage, tell=lambda key: None)
    assert [each.key for each in findings] == ["mappings/m/7/latent.csv"]
    now = storage.clock()
    assert in_flight(storage, findings, began=now) == findings
    assert in_flight(storage, findings, began=now + IN_FLIGHT_SECONDS - 60) == findings
    assert in_flight(storage, findings, began=now + IN_FLIGHT_SECONDS + 60) == []
    assert repair(storage, findings) == 1
    assert list(storage.keys()) == [kept.storage_key]


def test_what_vanishes_meanwhile_is_somebodys(database: Database, storage: Storage) -> None:
    published(storage, "mappings/m/7", {"latent.csv": b"late"})
    with database.reading() as session:
        findings = check_everything(session, storage, tell=lambda key: None)
    storage.delete("mappings/m/7")
    assert in_flight(storage, findings, began=storage.clock() + 2 * IN_FLIGHT_SECONDS) == findings


def test_an_empty_database_is_taken_for_the_wrong_one(
    fsck: Command, database: Database, storage: Storage, sqlite_url: str
) -> None:
    query = uploaded(database, storage)
    told = fsck("--repair", code=1, database_url=sqlite_url)
    assert "The database speaks of no file, and the store holds 1" in told
    assert list(storage.keys()) == [query.storage_key]


def test_the_stores_clock_is_of_the_moment_of_publication(storage: Storage, tmp_path: Path) -> None:
    staged = staged_file(tmp_path / "staged")
    os.utime(staged.path, (0, 0))  # an upload that took its time
    before = storage.clock()
    time.sleep(1.1)
    storage.publish_file(staged.path, "queries/q/f")
    assert before + 1 <= storage.changed_at("queries/q/f") <= storage.clock()
    assert list(storage.keys()) == ["queries/q/f"]
    with pytest.raises(FileNotFoundError):
        storage.changed_at("queries/q/g")


def test_a_data_folder_with_its_own_database_and_store_is_not_shared(tmp_path: Path) -> None:
    assert not Settings(data_dir=tmp_path).is_shared
    store = LocalStorage(tmp_path / "store").root.as_uri()
    assert not Settings(data_dir=tmp_path, storage_url=store).is_shared
    assert Settings(data_dir=tmp_path, storage_url="file:///elsewhere").is_shared
    assert Settings(data_dir=tmp_path, storage_url="s3://bucket/prefix").is_shared
    assert Settings(data_dir=tmp_path, database_url="postgresql://h/db").is_shared
    assert Settings(data_dir=tmp_path, database_url="sqlite:////elsewhere/a.db").is_shared
