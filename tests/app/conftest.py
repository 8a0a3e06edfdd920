"""The service under test: a real database, real local storage, the real application."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.api import create_app
from app.changes import Changes
from app.database import Database
from app.service import Service, open_service
from app.settings import Settings
from app.storage import LocalStorage
from app.watcher import Watcher, revisions_of

from .object_store import behind_proxy as behind_proxy
from .object_store import new_place as new_place

with warnings.catch_warnings():
    # starlette would rather have httpx2; httpx is what our client uses
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(
        data_dir=tmp_path,
        database_url=database_url,
        max_upload_bytes=100_000,
        disk_reserve_bytes=0,
    )


@pytest.fixture
def service(settings: Settings, database: Database) -> Service:
    opened = open_service(settings)
    opened.database.close()
    watcher = Watcher(revisions_of(database), changes=Changes(database))
    return replace(opened, database=database, watcher=watcher)


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service), base_url="http://127.0.0.1") as opened:
        yield opened
