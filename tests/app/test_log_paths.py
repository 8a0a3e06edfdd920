"""The access log never tells what a file is called, wherever its sender sends it."""

from __future__ import annotations

import json

import pytest

from app.logs import JsonLines

from .conftest import TestClient

CANARY = "anna-canary.h5ad"


@pytest.mark.parametrize(
    ("method", "path", "shown"),
    [
        ("PUT", f"/v1/queries/{CANARY}", "/v1/queries/{filename}"),
        ("PUT", f"/v1/map/{CANARY}?reference=none", "/v1/map/{filename}"),
        ("GET", f"/v1/map/{CANARY}", "/v1/map/{filename}"),
        ("GET", f"/v1/queries/{CANARY}", "/v1/queries/{filename}"),
        ("PUT", f"/v1/queries/folder/{CANARY}", "/v1/queries/{filename}"),
        ("PUT", f"/v1/query/{CANARY}", "/v1/query/..."),
        ("POST", f"/v2/x/y/{CANARY}", "/v2/x/..."),
        ("GET", f"/v1/queries/{'0' * 32}", f"/v1/queries/{'0' * 32}"),
        ("GET", f"/v1/queries/{'0' * 32}/ranking", f"/v1/queries/{'0' * 32}/ranking"),
        ("GET", f"/v1/mappings/{'0' * 32}/results", f"/v1/mappings/{'0' * 32}/results"),
        ("GET", "/v1/references/pbmc", "/v1/references/pbmc"),
        ("GET", "/v1/queries", "/v1/queries"),
    ],
)
def test_paths_as_they_are_logged(
    client: TestClient, caplog: pytest.LogCaptureFixture, method: str, path: str, shown: str
) -> None:
    caplog.set_level("INFO", "cellgraft.api")
    client.request(method, path, content=b"x" if method != "GET" else None)
    ours = [record for record in caplog.records if record.name == "cellgraft.api"]
    assert [json.loads(JsonLines().format(record))["path"] for record in ours] == [shown]
    assert [record for record in caplog.records if CANARY in JsonLines().format(record)] == [
        record
        for record in caplog.records
        if record.name.startswith("httpx") and CANARY in record.getMessage()
    ]
