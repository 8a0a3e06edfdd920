"""Queries by HTTP, health, what the framework refuses, and problems of the service itself."""

from __future__ import annotations

import json

import pytest
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from starlette.testclient import TestClient

from app.api import create_app
from app.coverage import _Recent
from app.database import Database
from app.keys import Principal
from app.problems import Forbidden
from app.routes import health, queries
from app.service import Service
from app.storage import LocalStorage
from app.workers import dismiss_worker, register_worker

from .factories import asked, built, checked, mapped


def test_a_query_when_ready(client: TestClient, database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    query = checked(database, storage)
    body = client.get(f"/v1/queries/{query.id}?wait=5").json()
    assert (body["state"], body["terminal"], body["problem"]) == ("ready", True, None)
    assert body["inspection"]["n_cells"] == 10
    assert body["gene_coverage"] == [
        {
            "reference": "pbmc",
            "version": 1,
            "n_matched": 4,
            "n_panel": 4,
            "share": 1.0,
            "expected_expression_covered": 1.0,
            "query_column": "index",
            "reference_column": "ids",
            "advice": "good",
            "refuse_below": 0.5,
            "warn_below": 0.8,
            "matched_as": {"exact": 4},
            "query_species": [],
            "reference_species": [],
            "species_differ": False,
            "columns_tried": [
                {
                    "query_column": "index",
                    "kind": "symbols",
                    "reference_column": "ids",
                    "n_matched": 4,
                    "expected_expression_covered": 1.0,
                }
            ],
            "missing_genes": [],
            "kind": "gene",
            "kinds": [
                {
                    "kind": "gene",
                    "n_matched": 4,
                    "n_panel": 4,
                    "expected_expression_covered": 1.0,
                    "missing": [],
                    "unknown": [],
                }
            ],
            "licence": None,
            "citation": None,
        }
    ]


def test_what_was_asked_for_lately_is_remembered() -> None:
    recent: _Recent[int] = _Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (1, None, 3)


def test_queries_are_listed_and_filtered(client: TestClient) -> None:
    ids = [
        client.put("/v1/queries", content=b"x", params={"tag": tag, "external_id": tag}).json()[
            "id"
        ]
        for tag in ("a", "b")
    ]
    listed = client.get("/v1/queries").json()
    assert [item["id"] for item in listed["items"]] == ids[::-1]
    assert client.get("/v1/queries?tag=b").json()["items"][0]["id"] == ids[1]
    assert client.get("/v1/queries?external_id=a").json()["items"][0]["id"] == ids[0]
    assert client.get("/v1/queries?limit=1").json()["next"]


def test_deleting_queries(client: TestClient, database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    query = checked(database, storage)
    mapping = mapped(database, storage, query)
    asked(database, query)
    here = f"/v1/queries/{query.id}"
    refused = client.delete(here)
    assert (refused.status_code, refused.json()["type"]) == (409, "query-has-mappings")
    assert len(refused.json()["mappings"]) == 2
    assert client.delete(f"{here}?cascade=true").status_code == 204
    assert client.get(here).json()["type"] == "unknown-query"
    assert not list(storage.keys(f"queries/{query.id}"))
    assert not list(storage.keys(f"mappings/{mapping.id}"))


@pytest.mark.parametrize(
    ("method", "address", "status", "kind"),
    [
        ("GET", "/v1/nowhere", 404, "not-found"),
        ("GET", "/nowhere", 404, "not-found"),
        ("DELETE", "/v1/references", 405, "method-not-allowed"),
        ("GET", "/v1/references/pbmc/versions/x", 422, "malformed-request"),
        ("POST", "/v1/mappings", 422, "malformed-request"),
    ],
)
def test_what_the_framework_refuses(
    client: TestClient, method: str, address: str, status: int, kind: str
) -> None:
    answer = client.request(method, address)
    assert (answer.status_code, answer.json()["type"]) == (status, kind)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["X-Request-Id"]
    if status == 405:
        assert answer.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("/v1/queries", "GET, HEAD, POST, PUT"),
        ("/v1/queries/x", "GET, HEAD, PUT, DELETE"),
        ("/v1/mappings/x", "GET, HEAD, DELETE"),
        ("/v1/mappings/x/cancel", "POST"),
        ("/v1/map", "POST, PUT"),
        ("/healthz", "GET, HEAD"),
    ],
)
def test_allow_names_every_method(client: TestClient, address: str, allowed: str) -> None:
    answer = client.patch(address)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert allowed in answer.json()["fix"]


def test_what_answers_get_answers_head(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    mapping = asked(database, query)
    for address in (
        "/healthz",
        "/readyz",
        "/v1/service-info",
        "/v1/references/pbmc",
        f"/v1/queries/{query.id}",
        f"/v1/mappings/{mapping.id}",
    ):
        got, head = client.get(address), client.head(address)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(len(got.content))
    events = client.head(f"/v1/mappings/{mapping.id}/events")  # does not wait for the end
    assert (events.status_code, events.content) == (200, b"")
    assert client.head("/v1/queries/none").status_code == 404
    assert client.head("/v1/mappings/x/cancel").status_code == 405


@pytest.mark.parametrize("address", ["/v1/mappings", "/v1/references", "/v1/keys"])
def test_a_body_that_is_not_called_json(client: TestClient, address: str) -> None:
    for headers in ({"Content-Type": "application/x-www-form-urlencoded"}, {}):
        answer = client.post(address, content=b'{"name": "x"}', headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (415, "unsupported-media-type")
        assert "Content-Type: application/json" in answer.json()["fix"]


def test_nul_characters(client: TestClient) -> None:
    answer = client.get("/v1/queries/a%00b")
    assert (answer.status_code, answer.json()["type"]) == (404, "not-found")
    for answer in (
        client.get("/v1/mappings?external_id=a%00"),
        client.put("/v1/queries?layer=%00", content=b"x"),
        client.post("/v1/queries", files={"file": b"x"}, data={"tag": "a\0"}),
        client.post("/v1/mappings", json={"query": "a\0", "reference": "pbmc"}),
        client.post("/v1/mappings", json={"query": "a", "reference": "pbmc", "tags": ["\0"]}),
        client.post("/v1/references", json={"query": "a", "name": "b", "architecture": {"\0": 1}}),
    ):
        assert (answer.status_code, answer.json()["type"]) == (422, "malformed-request")
        assert "NUL" in answer.json()["detail"]


def test_broken_json(client: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post("/v1/mappings", content=b"{", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (422, "malformed-request")


def test_request_ids(client: TestClient) -> None:
    assert (
        client.get("/healthz", headers={"X-Request-Id": "run-7"}).headers["X-Request-Id"] == "run-7"
    )
    strange = client.get("/healthz", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"]
    assert len(strange) == 32


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_database_away_is_503(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, error: type[DBAPIError]
) -> None:
    def away(*arguments: object, **named: object) -> None:
        raise error("SELECT secret", {}, Exception("database is locked"))

    monkeypatch.setattr(queries.queries, "list_queries", away)
    answer = client.get("/v1/queries")
    assert (answer.status_code, answer.json()["type"]) == (503, "service-busy")
    assert answer.headers["Retry-After"]
    assert "SELECT" not in answer.text


def test_a_defect_leaks_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def defect(*arguments: object, **named: object) -> None:
        raise RuntimeError("the password is 1234")

    monkeypatch.setattr(queries.queries, "list_queries", defect)
    answer = client.get("/v1/queries")
    assert (answer.status_code, answer.json()["type"]) == (500, "internal-fault")
    assert "1234" not in answer.text
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    assert any(answer.headers["X-Request-Id"] in str(vars(record)) for record in caplog.records)


def test_logs_are_lines_without_secrets(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    from app.logs import JsonLines

    caplog.set_level("INFO", "cellgraft.api")
    client.get("/v1/queries?external_id=secret-1", headers={"X-API-Key": "cg_x_secret-2"})
    lines = [JsonLines().format(record) for record in caplog.records]
    ours = [json.loads(line) for line in lines if '"path"' in line]
    assert (ours[-1]["path"], ours[-1]["status"]) == ("/v1/queries", 401)
    assert "secret" not in "".join(lines)


def test_readiness(client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["workers"]["seen"]) == (200, 0)
    service.uploads.reserve_bytes = 1 << 62
    full = client.get("/readyz")
    assert (full.status_code, full.json()["checks"]["disk"]) == (
        503,
        "There is not enough disk space.",
    )
    service.uploads.reserve_bytes = 0

    def away(_: Service) -> None:
        raise OperationalError("x", {}, Exception("gone"))

    monkeypatch.setattr(health, "_database", away)
    assert client.get("/readyz").json()["checks"]["database"] == "failed: OperationalError"


WALLED = {"layer": "landlock", "landlock_abi": 7, "filter": True, "missing": []}
OPEN = {
    "layer": "limits",
    "landlock_abi": 0,
    "filter": True,
    "missing": [{"what": "A reader can read everything.", "fix": "Use a kernel with Landlock."}],
}


def test_readiness_tells_what_workers_say_of_their_sandboxes(
    client: TestClient, database: Database
) -> None:
    assert client.get("/readyz").json()["sandboxes"] == []
    for name, sandbox in (("a", WALLED), ("b", WALLED), ("c", OPEN), ("old", None)):
        with database.writing() as session:
            register_worker(session, name, device="cpu", warm=(), sandbox=sandbox)
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["sandboxes"] == [{**OPEN, "workers": 1}, {**WALLED, "workers": 2}]
    assert ready.json()["warnings"] == ["A reader can read everything."]
    with database.writing() as session:
        dismiss_worker(session, "c")
    assert client.get("/readyz").json()["warnings"] == []


def test_openapi_declares_problems_and_examples(service: Service) -> None:
    described = create_app(service).openapi()
    assert "Problem" in described["components"]["schemas"]
    assert "HTTPValidationError" not in json.dumps(described)
    submit = described["paths"]["/v1/mappings"]["post"]
    problems = submit["responses"]["422"]["content"]["application/problem+json"]["examples"]
    assert {"too-few-genes", "unknown-batch-column", "malformed-request"} <= set(problems)
    assert described["components"]["schemas"]["MappingIn"]["examples"]
    upload = described["paths"]["/v1/queries"]["put"]
    assert "application/octet-stream" in upload["requestBody"]["content"]
    ids = [
        operation["operationId"]
        for path in described["paths"].values()
        for operation in path.values()
    ]
    assert len(ids) == len(set(ids))


def test_scopes_are_plain() -> None:
    Principal("x", frozenset({"admin"})).require("submit")
    with pytest.raises(Forbidden):
        Principal("x", frozenset({"read"})).require("submit")


def test_files_that_are_gone_are_told(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    mapping = mapped(database, storage, query)
    other = checked(database, storage)
    storage.delete(f"mappings/{mapping.id}")
    storage.delete("references/pbmc/1/1/cells.parquet")
    storage.delete(f"queries/{other.id}")
    for address in (
        f"/v1/mappings/{mapping.id}/results/latent.csv",
        "/v1/references/pbmc/cells.parquet",
    ):
        for method in ("GET", "HEAD"):
            assert client.request(method, address).status_code == 410
        assert client.get(address).json()["type"] == "file-gone"
    gone = client.get(f"/v1/queries/{other.id}")
    assert (gone.status_code, gone.json()["type"]) == (404, "unknown-query")
