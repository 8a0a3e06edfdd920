"""Results of mappings by HTTP: listed, chosen by Accept, downloaded whole and in ranges."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from app.database import Database
from app.storage import LocalStorage

from .factories import (
    RESULTS,
    asked,
    built,
    checked,
    mapped,
)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url  # files are tested here, not the database


def test_results(client: TestClient, database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    query = checked(database, storage)
    unfinished = asked(database, query)
    early = client.get(f"/v1/mappings/{unfinished.id}/results/latent.csv")
    assert (early.status_code, early.json()["type"]) == (409, "mapping-not-finished")
    client.post(f"/v1/mappings/{unfinished.id}/cancel")
    here = f"/v1/mappings/{mapped(database, storage, query).id}/results"
    listed = client.get(here).json()["items"]
    assert [item["name"] for item in listed] == list(RESULTS)
    for item in listed:
        answer = client.get(item["links"]["self"])
        content, media_type = RESULTS[item["name"]]
        assert answer.content == content
        assert answer.headers["content-type"].split(";")[0] == media_type
        assert answer.headers["ETag"] == f'"{item["sha256"]}"'
        assert item["name"] in answer.headers["Content-Disposition"]
        head = client.head(item["links"]["self"])
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(len(content))
        same = client.get(item["links"]["self"], headers={"If-None-Match": answer.headers["ETag"]})
        assert same.status_code == 304
    unknown = client.get(f"{here}/none.txt")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "unknown-result")


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        (None, "latent.parquet"),
        ("*/*", "latent.parquet"),
        ("text/csv", "latent.csv"),
        ("text/*", "latent.csv"),
        ("application/x-npy", "latent.npy"),
        ("text/csv;q=0.5, application/x-npy", "latent.npy"),
        ("*/*;q=0.1, text/csv", "latent.csv"),
        ("application/json, text/csv;q=0.2", "latent.csv"),
    ],
)
def test_the_latent_by_accept(
    client: TestClient,
    database: Database,
    storage: LocalStorage,
    accept: str | None,
    name: str,
) -> None:
    built(database, storage)
    mapping = mapped(database, storage, checked(database, storage))
    headers = {"Accept": accept} if accept else {}
    answer = client.get(f"/v1/mappings/{mapping.id}/results/latent", headers=headers)
    assert answer.content == RESULTS[name][0]
    assert answer.headers["Vary"] == "Accept"
    assert answer.headers["Content-Location"].endswith(name)
    refused = client.get(
        f"/v1/mappings/{mapping.id}/results/latent", headers={"Accept": "image/png, text/csv;q=0"}
    )
    assert (refused.status_code, refused.json()["type"]) == (406, "not-acceptable")


@pytest.mark.parametrize(
    ("header", "status", "content"),
    [
        ("bytes=0-3", 206, b"parq"),
        ("bytes=4-", 206, b"uet!"),
        ("bytes=-2", 206, b"t!"),
        ("bytes=2-100", 206, b"rquet!"),
        ("bytes=8-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=0-1,3-4", 200, b"parquet!"),
        ("bytes=5-2", 200, b"parquet!"),
        ("lines=1-2", 200, b"parquet!"),
    ],
)
def test_ranges(
    client: TestClient,
    database: Database,
    storage: LocalStorage,
    header: str,
    status: int,
    content: bytes | None,
) -> None:
    built(database, storage)
    mapping = mapped(database, storage, checked(database, storage))
    here = f"/v1/mappings/{mapping.id}/results/latent.parquet"
    answer = client.get(here, headers={"Range": header})
    assert answer.status_code == status
    if content is None:
        assert answer.json()["type"] == "range-not-satisfiable"
        assert answer.headers["Content-Range"] == "bytes */8"
        return
    assert answer.content == content
    assert answer.headers["Content-Length"] == str(len(content))
    stale = client.get(here, headers={"Range": header, "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, b"parquet!")
