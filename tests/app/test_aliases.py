"""Aliases of versions: resolved when a job is submitted, recorded with it, moved on later."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from app.aliases import set_alias
from app.database import Database
from app.problems import MalformedRequest
from app.reference_names import ReferenceName, check_alias, read_reference
from app.storage import LocalStorage
from app.tables import Event
from app.work import MapWork, describe_work

from .factories import asked, built, checked, claimed
from .test_keys import key_for


def put(client: TestClient, version: int, alias: str = "stable", **options: object) -> object:
    answer = client.put(f"/v1/references/pbmc/aliases/{alias}", json={"version": version})
    assert answer.status_code == 200, answer.text
    return answer.json()["previous"]


def test_a_mapping_keeps_the_version_that_its_alias_named_when_it_was_asked_for(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    built(database, storage)
    query = checked(database, storage)
    assert put(client, 1) is None
    body = {"query": query.id, "reference": "pbmc@stable"}
    first = client.post("/v1/mappings", json=body).json()
    assert (first["reference"], first["version"], first["alias"]) == ("pbmc", 1, "stable")
    assert put(client, 2) == 1
    second = client.post("/v1/mappings", json=body).json()
    assert (second["version"], second["alias"]) == (2, "stable")
    again = client.get(f"/v1/mappings/{first['id']}").json()
    assert (again["version"], again["alias"]) == (1, "stable")
    upload = client.put("/v1/map?reference=pbmc@stable", content=b"cells")
    assert (upload.status_code, upload.json()["version"], upload.json()["alias"]) == (
        202,
        2,
        "stable",
    )
    assert client.get("/v1/references/pbmc").json()["aliases"] == {"stable": 2}


def test_a_name_with_a_version(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    built(database, storage)
    query = checked(database, storage).id

    def answer(reference: str, version: int | None = None) -> tuple[int, object]:
        body = {"query": query, "reference": reference, "version": version}
        given = client.post("/v1/mappings", json=body)
        return given.status_code, given.json().get("version", given.json().get("type"))

    assert answer("pbmc@1") == (202, 1)
    assert answer("pbmc@1", 1) == (202, 1)
    assert answer("pbmc", 1) == (202, 1)
    assert answer("pbmc") == (202, 2)
    assert answer("pbmc@1", 2) == (422, "malformed-request")
    assert answer("pbmc@stable", 2) == (422, "malformed-request")
    assert answer("pbmc@3") == (404, "unknown-reference")
    assert answer("pbmc@9999999999999999999") == (404, "unknown-reference")
    assert answer("pbmc@stable") == (404, "unknown-reference")
    assert answer("pbmc@") == (404, "unknown-reference")
    assert answer("none@stable") == (404, "unknown-reference")


def test_an_idempotent_request_keeps_its_answer_when_the_alias_has_moved(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    built(database, storage)
    body = {"query": checked(database, storage).id, "reference": "pbmc@stable"}
    put(client, 1)
    key = {"Idempotency-Key": "run-7"}
    first = client.post("/v1/mappings", json=body, headers=key).json()
    put(client, 2)
    second = client.post("/v1/mappings", json=body, headers=key).json()
    assert (second["id"], second["version"]) == (first["id"], 1)


def test_the_events_are_the_history_of_an_alias(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    built(database, storage)
    put(client, 1)
    put(client, 2)
    assert client.delete("/v1/references/pbmc/aliases/stable").status_code == 204
    gone = client.delete("/v1/references/pbmc/aliases/stable")
    assert (gone.status_code, gone.json()["type"]) == (404, "unknown-reference")
    with database.reading() as session:
        events = session.execute(
            select(Event.kind, Event.data).where(Event.kind.like("%alias%")).order_by(Event.id)
        ).all()
    assert [(kind, data["version"], data.get("previous")) for kind, data in events] == [
        ("reference.alias-set", 1, None),
        ("reference.alias-set", 2, 1),
        ("reference.alias-removed", 2, None),
    ]
    assert {data["by"] for _, data in events} == {"local"}


def test_what_cannot_be_an_alias(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    here = "/v1/references/pbmc/aliases"
    for alias in ("7", "v2", "nan", "infinity", "Stable", "a@b", "-x", "v1.0", "x" * 64):
        answer = client.put(f"{here}/{alias}", json={"version": 1})
        assert (answer.status_code, answer.json()["type"]) == (422, "malformed-request"), alias
    check_alias("v2-stable")
    with pytest.raises(MalformedRequest):
        check_alias("1e5")
    assert client.put(f"{here}/stable", json={"version": 2}).status_code == 404
    client.post("/v1/references/pbmc/versions/1/withdraw", json={"reason": "x"})
    withdrawn = client.put(f"{here}/stable", json={"version": 1})
    assert (withdrawn.status_code, withdrawn.json()["type"]) == (409, "reference-not-ready")
    submitter = key_for(database, "read", "submit")
    assert client.put(f"{here}/stable", json={"version": 1}, headers=submitter).status_code == 403
    assert client.delete(f"{here}/stable", headers=submitter).status_code == 403


def test_the_worker_is_told_how_the_reference_was_asked_for(
    database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    with database.writing() as session:
        set_alias(session, name="pbmc", alias="stable", version=1, by="local")
    asked(database, checked(database, storage), reference="pbmc@stable")
    with database.reading() as session:
        work = describe_work(session, claimed(database, "map"))
    assert isinstance(work, MapWork)
    assert work.reference_facts == {"alias": "stable", "warnings": []}


def test_names_are_written_as_they_are_read() -> None:
    for text in ("hlca", "hlca@2", "hlca@stable"):
        assert str(read_reference(text)) == text
    assert read_reference("hlca", 3) == ReferenceName("hlca", 3)
