"""Registering imported versions, beside those that are built."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from app.database import Database
from app.fsck import check_everything
from app.imports import import_prefix, register_import
from app.keys import LOCAL_ADMINISTRATOR
from app.problems import MalformedRequest, ReferenceExists
from app.references import find_version, next_version
from app.storage import LocalStorage
from app.tables import Event, ReferenceVersion

from .factories import built, manifest, published


def imported(database: Database, storage: LocalStorage, number: int) -> ReferenceVersion:
    told = manifest("pbmc", number, files={})
    prefix = import_prefix("pbmc", number)
    published(
        storage, prefix, {"manifest.json": json.dumps(told).encode(), "MODEL_CARD.md": b"# A card"}
    )
    with database.writing() as session:
        return register_import(
            session, storage, owner="local", prefix=prefix, manifest=told, options={}
        )


def test_an_import_is_ready_from_the_start(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    with database.reading() as session:
        assert next_version(session, "pbmc") == 2
    imported(database, storage, 2)
    body = client.get("/v1/references/pbmc").json()
    assert (body["version"], body["state"], body["progress"]) == (2, "ready", 1.0)
    assert "cells" not in body["links"]
    assert client.get("/v1/references/pbmc/cells.parquet").status_code == 404
    assert client.get("/v1/references/pbmc/genes").status_code == 200
    with database.reading() as session:
        kinds = [event.kind for event in session.query(Event).order_by(Event.id)]
        assert kinds[-1] == "import.succeeded"
        assert find_version(session, "pbmc", caller=LOCAL_ADMINISTRATOR).bundle_prefix is not None
        assert check_everything(session, storage, tell=lambda _: None) == []


def test_a_number_that_was_taken_meanwhile_is_not_taken_again(
    database: Database, storage: LocalStorage
) -> None:
    first = imported(database, storage, 1)
    with pytest.raises(ReferenceExists):
        imported(database, storage, 1)
    with database.reading() as session:
        kept = find_version(session, "pbmc", 1, caller=LOCAL_ADMINISTRATOR)
        assert kept.id == first.id
        assert storage.exists(f"{kept.bundle_prefix}/manifest.json")


def test_a_name_that_cannot_be_is_refused(database: Database) -> None:
    with database.reading() as session, pytest.raises(MalformedRequest):
        next_version(session, "../up")
