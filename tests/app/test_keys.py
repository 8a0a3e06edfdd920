"""Keys, scopes, owners and the loopback rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.testclient import TestClient

from app import doors
from app.api import create_app
from app.columns import utc_now
from app.database import Database
from app.keys import create_key, revoke_key
from app.service import Service, UnsafeBinding, check_binding, host_of, is_loopback
from app.settings import Settings
from app.storage import LocalStorage
from app.tables import ApiKey

from .factories import asked, built, checked


def key_for(
    database: Database, *scopes: str, owner: str = "local", days: int = 1
) -> dict[str, str]:
    with database.writing() as session:
        _, secret = create_key(
            session,
            name="test",
            owner=owner,
            scopes=scopes or ("read", "submit"),
            expires_at=utc_now() + timedelta(days=days),
        )
    return {"Authorization": f"Bearer {secret}"}


def test_without_keys_this_machine_is_the_administrator(client: TestClient) -> None:
    assert client.get("/v1/service-info").json()["you"]["scopes"] == ["admin", "read", "submit"]
    assert client.get("/v1/keys").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.1", "127.0.0.1.evil.example", ""])
def test_a_rebound_name_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/v1/queries", headers={"Host": host})
    assert (answer.status_code, answer.json()["type"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_foreign_page_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/queries", headers={"Origin": "https://evil.example"}, content=b"x")
    assert (answer.status_code, answer.json()["type"]) == (403, "foreign-origin")
    assert client.get("/v1/queries", headers={"Origin": "http://localhost:3000"}).is_success


def test_once_a_key_exists_every_request_needs_one(client: TestClient, database: Database) -> None:
    headers = key_for(database, "read")
    assert client.get("/v1/queries").status_code == 401
    assert client.get("/v1/nowhere").status_code == 401
    assert client.get("/v1/queries", headers=headers).status_code == 200
    token = headers["Authorization"].removeprefix("Bearer ")
    assert client.get("/v1/queries", headers={"X-API-Key": token}).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/openapi.json").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        {"Authorization": "Bearer cg_000000000000_" + "0" * 48},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic Y2c6eA=="},
        {"Authorization": ""},
        {"X-API-Key": "cg__"},
    ],
)
def test_a_wrong_key_is_refused_even_without_any(
    client: TestClient, header: dict[str, str]
) -> None:
    answer = client.get("/v1/queries", headers=header)
    assert (answer.status_code, answer.json()["type"]) == (401, "unauthenticated")


def test_expired_revoked_and_altered_keys_get_one_answer(
    client: TestClient, database: Database
) -> None:
    expired = key_for(database, "read", days=-1)
    revoked = key_for(database, "read")
    good = key_for(database, "read")
    altered = {"Authorization": good["Authorization"][:-1] + "x"}
    with database.writing() as session:
        revoke_key(session, key_id=revoked["Authorization"].split("_")[1])
    answers = [client.get("/v1/queries", headers=each) for each in (expired, revoked, altered)]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


def test_scopes(client: TestClient, database: Database) -> None:
    read, submit = key_for(database, "read"), key_for(database, "submit")
    answer = client.put("/v1/queries", content=b"x", headers=read)
    assert (answer.status_code, answer.json()["type"]) == (403, "forbidden")
    assert client.put("/v1/queries", content=b"x", headers=submit).status_code == 201
    assert client.get("/v1/queries", headers=submit).status_code == 403
    assert client.get("/v1/keys", headers=read).status_code == 403
    assert client.get("/v1/keys", headers=key_for(database, "admin")).status_code == 200


def test_what_belongs_to_others_does_not_exist(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    mapping = asked(database, query)
    other = key_for(database, "admin", owner="other")
    for address in (
        f"/v1/queries/{query.id}",
        f"/v1/mappings/{mapping.id}",
        f"/v1/mappings/{mapping.id}/events",
        f"/v1/mappings/{mapping.id}/results",
    ):
        theirs = client.get(address, headers=other)
        nothing = client.get(
            address.replace(query.id, "0" * 32).replace(mapping.id, "0" * 32), headers=other
        )
        assert theirs.status_code == nothing.status_code == 404
        assert theirs.json()["type"] == nothing.json()["type"]
    assert client.get("/v1/queries", headers=other).json()["items"] == []
    assert client.get("/v1/mappings", headers=other).json()["items"] == []
    for method, address in (
        ("DELETE", f"/v1/queries/{query.id}"),
        ("DELETE", f"/v1/mappings/{mapping.id}"),
        ("POST", f"/v1/mappings/{mapping.id}/cancel"),
    ):
        assert client.request(method, address, headers=other).status_code == 404
    body = {"query": query.id, "reference": "pbmc"}
    assert client.post("/v1/mappings", json=body, headers=other).status_code == 404


def test_a_key_by_http_is_shown_once(client: TestClient, database: Database) -> None:
    made = client.post("/v1/keys", json={"name": "first", "scopes": ["admin"]})
    assert made.status_code == 201
    key = made.json()["key"]
    assert made.headers["Location"] == f"/v1/keys/{made.json()['id']}"
    headers = {"Authorization": f"Bearer {key}"}
    listed = client.get("/v1/keys", headers=headers)
    assert key not in listed.text
    assert "key" not in listed.json()["items"][0]
    with database.reading() as session:
        stored = session.scalars(select(ApiKey)).one()
    assert key.split("_")[2] not in str(vars(stored))
    unknown = client.delete("/v1/keys/none", headers=headers)
    assert (unknown.status_code, unknown.json()["type"]) == (404, "unknown-key")
    revoked = client.delete(f"/v1/keys/{made.json()['id']}", headers=headers)
    assert revoked.json()["revoked_at"].endswith("Z")
    assert client.get("/v1/keys", headers=headers).status_code == 401


def test_without_a_living_key_the_doors_stay_shut(client: TestClient, database: Database) -> None:
    headers = key_for(database, "admin", days=-1)
    assert client.get("/v1/queries").status_code == 401
    with database.writing() as session:
        revoke_key(session, key_id=headers["Authorization"].split("_")[1])
    assert client.get("/v1/queries").status_code == 401


@pytest.mark.parametrize("error", [OperationalError, InterfaceError, PoolTimeout])
def test_at_the_door_a_database_away_is_503(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    headers = key_for(database, "read")
    away = error() if error is PoolTimeout else error("SELECT secret", {}, Exception("gone"))

    def fail(*arguments: object) -> None:
        raise away

    monkeypatch.setattr(doors, "note_use", fail)
    assert client.get("/v1/queries", headers=headers).status_code == 200
    monkeypatch.setattr(doors, "authenticate", fail)
    answer = client.get("/v1/queries", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (503, "service-busy")
    assert answer.headers["Retry-After"]
    assert "SELECT" not in answer.text


def test_malformed_keys(client: TestClient) -> None:
    assert client.post("/v1/keys", json={"name": "x", "scopes": []}).status_code == 422
    for at in (
        "2020-01-01T00:00:00Z",
        "2030-01-01T00:00:00",
        "0001-01-01T00:00:00+23:00",
        "9999-12-31T23:00:00-23:00",
    ):
        answer = client.post("/v1/keys", json={"name": "x", "expires_at": at})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/expires_at")


def test_last_use_is_written_once_a_minute(client: TestClient, database: Database) -> None:
    headers = key_for(database, "read")

    def last_used() -> object:
        with database.reading() as session:
            return session.scalars(select(ApiKey.last_used_at)).one()

    assert last_used() is None
    client.get("/v1/queries", headers=headers)
    first = last_used()
    assert first is not None
    client.get("/v1/queries", headers=headers)
    assert last_used() == first


def test_open_binding_is_refused_without_keys() -> None:
    check_binding(Settings(host="127.0.0.1"), has_keys=False)
    check_binding(Settings(host="0.0.0.0"), has_keys=True)
    check_binding(Settings(host="0.0.0.0", allow_unauthenticated=True), has_keys=False)
    with pytest.raises(UnsafeBinding, match="keys create"):
        check_binding(Settings(host="0.0.0.0"), has_keys=False)


def test_open_to_all_when_asked(service: Service) -> None:
    open_service = replace(service, open_to_this_machine=False, open_to_all=True)
    with TestClient(create_app(open_service), base_url="http://lab.example") as client:
        assert client.get("/v1/queries").status_code == 200


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("127.0.0.1:8000", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("localhost", "localhost"),
        ("http://localhost:3000", "localhost"),
    ],
)
def test_loopback_names(header: str, host: str) -> None:
    assert host_of(header) == host
    assert is_loopback(host)
