"""References and queries by HTTP, health, and problems of the service itself."""

from __future__ import annotations

import json

import pytest
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from starlette.testclient import TestClient

from app.api import create_app
from app.database import Database
from app.fsck import check_everything
from app.jobs import fail_job
from app.keys import Principal
from app.problems import Forbidden, ReferenceBuilding, ReferenceInUse, UntrainableReference
from app.references import bundle_prefix, remove_version
from app.routes import health, queries
from app.service import Service
from app.storage import LocalStorage
from app.tables import ReferenceVersion

from .factories import GENES, asked, built, checked, claimed, mapped, uploaded


def test_the_registry(client: TestClient, database: Database, storage: LocalStorage) -> None:
    assert client.get("/v1/references").json() == {"items": [], "next": None}
    built(database, storage)
    built(database, storage)
    query = checked(database, storage)
    client.post("/v1/references", json={"query": query.id, "name": "pbmc"})
    body = client.get("/v1/references/pbmc").json()
    assert (body["version"], body["state"], body["terminal"]) == (2, "ready", True)
    assert [(each["version"], each["state"]) for each in body["versions"]] == [
        (1, "ready"),
        (2, "ready"),
        (3, "building"),
    ]
    assert body["description"]["batch"] == {"key": "sample", "categories": ["a", "b"]}
    assert body["description"]["n_genes"] == 4
    assert body["description"]["surgery_has_effect"] is True
    assert body["model_card"] == "# A card"
    listed = client.get("/v1/references").json()["items"]
    assert [(each["name"], each["version"]) for each in listed] == [("pbmc", 2)]
    genes = client.get("/v1/references/pbmc/genes").json()
    assert genes == {"name": "pbmc", "version": 2, "n_genes": 4, "ids": GENES}
    assert client.get("/v1/references/pbmc/versions/1/genes").json()["version"] == 1
    cells = client.get("/v1/references/pbmc/cells.parquet")
    assert cells.content == b"cells"
    assert client.head("/v1/references/pbmc/versions/1/cells.parquet").status_code == 200
    building = client.get("/v1/references/pbmc/versions/3/cells.parquet")
    assert (building.status_code, building.json()["type"]) == (409, "reference-not-ready")
    for number in (4, 0, -1, 10**30):
        unknown = client.get(f"/v1/references/pbmc/versions/{number}")
        assert (unknown.status_code, unknown.json()["type"]) == (404, "unknown-reference")


def test_building(client: TestClient, database: Database, storage: LocalStorage) -> None:
    query = uploaded(database, storage)
    answer = client.post(
        "/v1/references",
        json={"query": query.id, "name": "lung", "batch_key": "donor", "labels_key": "type"},
    )
    assert answer.status_code == 202
    assert answer.headers["Location"] == "/v1/references/lung/versions/1"
    assert (answer.json()["state"], answer.json()["description"]) == ("building", None)
    refused = client.delete(f"/v1/queries/{query.id}?cascade=true")
    assert (refused.status_code, refused.json()["type"]) == (409, "query-in-use")
    claimed(database, "check")
    body = {"query": query.id, "name": "Bad Name"}
    assert client.post("/v1/references", json=body).json()["type"] == "malformed-request"
    body = {"query": "none", "name": "lung"}
    assert client.post("/v1/references", json=body).json()["type"] == "unknown-query"
    # The matrix was chosen when the query was uploaded.
    layered = {"query": query.id, "name": "lung", "layer": "layers/counts"}
    refused = client.post("/v1/references", json=layered).json()
    assert (refused["type"], refused["errors"][0]["pointer"]) == ("malformed-request", "/layer")


def test_a_failed_build_says_why(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    query = checked(database, storage)
    client.post("/v1/references", json={"query": query.id, "name": "lung"})
    with database.writing() as session:
        problem = UntrainableReference("3 cells are too few.", fix="Send more cells.")
        fail_job(session, claimed(database, "build"), problem)
    body = client.get("/v1/references/lung").json()
    assert (body["state"], body["problem"]["type"]) == ("failed", "untrainable-reference")
    assert client.delete(f"/v1/queries/{query.id}").status_code == 204
    assert client.get("/v1/references/lung/versions/1").json()["state"] == "failed"


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
        }
    ]


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
        assert "GET" in answer.headers["Allow"]


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


def removed(database: Database, storage: LocalStorage, version: int) -> None:
    with database.writing() as session:
        storage.delete(remove_version(session, name="pbmc", version=version))


def test_a_version_with_mappings_stays(database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    mapped(database, storage, checked(database, storage))
    with pytest.raises(ReferenceInUse, match="1 mappings"):
        removed(database, storage, 1)


def test_the_number_of_a_removed_version_is_never_given_again(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    built(database, storage)
    for _ in range(2):
        removed(database, storage, 2)
    here = "/v1/references/pbmc/versions/2"
    shown = client.get(here).json()
    assert (shown["state"], shown["terminal"], shown["model_card"]) == ("withdrawn", True, None)
    assert "cells" not in shown["links"]
    refused = client.get(f"{here}/cells.parquet")
    assert (refused.status_code, refused.json()["type"]) == (409, "reference-not-ready")
    assert not list(storage.keys("references/pbmc/2"))
    assert client.get("/v1/references/pbmc").json()["version"] == 1
    body = {"query": checked(database, storage).id, "reference": "pbmc"}
    assert client.post("/v1/mappings", json=body).json()["version"] == 1
    refused = client.post("/v1/mappings", json={**body, "version": 2})
    assert (refused.status_code, refused.json()["state"]) == (409, "withdrawn")
    assert built(database, storage).version == 3
    with database.reading() as session:
        assert check_everything(session, storage, tell=lambda key: None) == []


def test_a_reference_without_versions_left_is_unknown(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    removed(database, storage, 1)
    assert client.get("/v1/references").json()["items"] == []
    assert client.get("/v1/references/pbmc").status_code == 404
    assert client.get("/v1/references/pbmc/versions/1").status_code == 200


def test_a_version_that_is_being_built_stays(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    query = checked(database, storage)
    client.post("/v1/references", json={"query": query.id, "name": "pbmc"})
    with pytest.raises(ReferenceBuilding):
        removed(database, storage, 1)
    with database.writing() as session:
        fail_job(session, claimed(database, "build"), UntrainableReference("3.", fix="More."))
    removed(database, storage, 1)


def test_a_late_build_cannot_touch_the_bundle(database: Database, storage: LocalStorage) -> None:
    assert bundle_prefix("pbmc", 1, 1) != bundle_prefix("pbmc", 1, 2)
    version = built(database, storage)
    late = storage.local_folder(bundle_prefix("pbmc", 1, 2))
    late.mkdir(parents=True)
    (late / "manifest.json").write_text("{}")
    with database.reading() as session:
        found = check_everything(session, storage, tell=lambda key: None)
    assert [(each.kind, each.key) for each in found] == [
        ("orphan", "references/pbmc/1/2/manifest.json")
    ]
    assert version.bundle_prefix == "references/pbmc/1/1"


def test_a_bundle_in_the_old_place_is_served(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    version = built(database, storage)
    new, old = storage.root / "references/pbmc/1/1", storage.root / "references/pbmc/old"
    new.rename(old)
    new.parent.rmdir()
    old.rename(new.parent)
    with database.writing() as session:
        session.get_one(ReferenceVersion, version.id).bundle_prefix = "references/pbmc/1"
        session.commit()
    assert client.get("/v1/references/pbmc/cells.parquet").content == b"cells"
    assert client.get("/v1/references/pbmc").json()["model_card"] == "# A card"
    with database.reading() as session:
        assert check_everything(session, storage, tell=lambda key: None) == []


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
