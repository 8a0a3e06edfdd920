"""What an idempotency key remembers of its request."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from starlette.testclient import TestClient

from app.database import Database
from app.storage import LocalStorage
from app.tables import IdempotencyKey

from .factories import built, checked


def test_a_key_of_an_earlier_version_knows_its_request(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    body = {"query": checked(database, storage).id, "reference": "pbmc"}
    first = client.post("/v1/mappings", json=body, headers={"Idempotency-Key": "k1"}).json()["id"]
    asked: dict[str, Any] = {
        **dict.fromkeys(("version", "batch_key", "labels_key", "size_factor_key", "external_id")),
        **{**body, "recipe": "default", "reuse_batches": False, "tags": []},
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    with database.reading() as session:
        assert session.get_one(IdempotencyKey, ("local", "k1")).request_sha256 == digest
    for more in ({"force": True}, {"cell_filter": {"column": "a", "in": ["b"]}}):
        answer = client.post(
            "/v1/mappings", json={**body, **more}, headers={"Idempotency-Key": "k1"}
        )
        assert answer.json()["type"] == "idempotency-key-reused"
    assert client.get(f"/v1/mappings/{first}").status_code == 200
