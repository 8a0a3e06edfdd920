"""The service on an S3-compatible store: downloads, and what happens while the store is away."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from app.database import Database
from app.fsck import Finding, check_everything, repair
from app.s3_storage import S3Storage
from app.service import Service
from app.tables import Job, Query

from .factories import RESULTS, built, checked, mapped, published
from .faulty_proxy import Fault, FaultyProxy
from .live import until
from .test_s3_faults import PROXIED, QUICK

DATA = os.urandom(50_000)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url  # the store is tested here, not the database


@pytest.fixture
def proxy(behind_proxy: PROXIED) -> FaultyProxy:
    return behind_proxy[1]


@pytest.fixture
def storage(behind_proxy: PROXIED, tmp_path: Path) -> S3Storage:
    return S3Storage(behind_proxy[0], folder=tmp_path / "cache", max_bytes=10**9, patience=QUICK)


@pytest.fixture
def service(service: Service, storage: S3Storage) -> Service:
    service.genes._storage = storage
    return replace(service, storage=storage)


def findings(database: Database, storage: S3Storage) -> list[Finding]:
    with database.reading() as session:
        return check_everything(session, storage, tell=lambda key: None)


def rows(database: Database) -> tuple[int | None, int | None]:
    with database.reading() as session:
        return (
            session.scalar(select(func.count()).select_from(Query)),
            session.scalar(select(func.count()).select_from(Job)),
        )


def test_uploads_and_results_live_in_the_store(
    client: TestClient, service: Service, database: Database, storage: S3Storage
) -> None:
    answer = client.put("/v1/queries/a.h5ad", content=DATA)
    assert answer.status_code == 201
    (key,) = storage.keys()
    assert key == f"queries/{answer.json()['id']}/{answer.json()['sha256']}.h5ad"
    assert b"".join(storage.read(key, 0, len(DATA))) == DATA
    assert list(service.uploads.staging.iterdir()) == []
    assert client.delete(f"/v1/queries/{answer.json()['id']}").status_code == 204
    assert list(storage.keys()) == []
    built(database, storage)
    mapping = mapped(database, storage, checked(database, storage))
    for name, (content, _) in RESULTS.items():
        there = f"/v1/mappings/{mapping.id}/results/{name}"
        assert client.get(there).content == content
        head = client.head(there)
        assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(content)))
        part = client.get(there, headers={"Range": "bytes=1-2"})
        assert (part.status_code, part.content) == (206, content[1:3])
    assert client.get("/v1/references/pbmc").json()["model_card"] == "# A card"
    assert client.get("/v1/references/pbmc/cells.parquet").content == b"cells"
    assert findings(database, storage) == []


@pytest.mark.parametrize("fault", ["away", "error", "full", "cut"])
def test_an_upload_while_the_store_is_away(
    client: TestClient,
    service: Service,
    database: Database,
    storage: S3Storage,
    proxy: FaultyProxy,
    fault: Fault,
) -> None:
    proxy.fault, proxy.cut_bytes = fault, 10
    for address in ("/v1/queries/a.h5ad", "/v1/queries?tag=x"):
        answer = client.put(address, content=DATA)
        assert (answer.status_code, answer.json()["type"]) == (503, "storage-away")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["Retry-After"] == "10"
        assert answer.json()["fault"] == "service"
    assert list(service.uploads.staging.iterdir()) == []
    assert rows(database) == (0, 0)
    proxy.fault = "none"
    assert client.put("/v1/queries/a.h5ad", content=DATA).status_code == 201
    # What came through although the answer did not is removed behind the store's back.
    until(lambda: findings(database, storage) == [], 30)


def test_reading_while_the_store_is_away(
    client: TestClient, database: Database, storage: S3Storage, proxy: FaultyProxy
) -> None:
    built(database, storage)
    query = checked(database, storage)
    mapping = mapped(database, storage, query)
    assert client.get("/readyz").json()["checks"]["storage"] == "ok"
    proxy.fault = "error"
    for method, there in (
        ("GET", f"/v1/mappings/{mapping.id}/results/latent.csv"),
        ("HEAD", f"/v1/mappings/{mapping.id}/results/latent.csv"),
        ("GET", "/v1/references/pbmc/cells.parquet"),
        ("GET", f"/v1/queries/{query.id}"),
    ):
        answer = client.request(method, there)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert "file store" in ready.json()["checks"]["storage"]
    proxy.fault = "none"
    assert client.get(f"/v1/mappings/{mapping.id}/results/latent.csv").status_code == 200


def test_what_is_deleted_while_the_store_is_away(
    client: TestClient, database: Database, storage: S3Storage, proxy: FaultyProxy
) -> None:
    sent = client.put("/v1/queries/a.h5ad", content=DATA).json()
    proxy.fault = "away"
    assert client.delete(f"/v1/queries/{sent['id']}").status_code == 204
    assert client.get(f"/v1/queries/{sent['id']}").status_code == 404
    proxy.fault = "none"
    until(lambda: findings(database, storage) == [], 30)
    assert list(storage.keys()) == []


def test_fsck_tells_what_is_missing_damaged_and_nobodys(
    database: Database, storage: S3Storage
) -> None:
    built(database, storage)
    mapping = mapped(database, storage, checked(database, storage))
    prefix = f"mappings/{mapping.id}/{1}"
    files = {name: content for name, (content, _) in RESULTS.items() if name != "latent.npy"}
    published(storage, prefix, files | {"latent.csv": b"other", "extra": b"x"})
    found = {(each.kind, each.key) for each in findings(database, storage)}
    assert found == {
        ("damaged", f"{prefix}/latent.csv"),
        ("missing", f"{prefix}/latent.npy"),
        ("orphan", f"{prefix}/extra"),
    }
    assert repair(storage, findings(database, storage)) == 1
    assert f"{prefix}/extra" not in list(storage.keys())
