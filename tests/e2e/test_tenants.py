"""Keys: once there is one, every call needs one, and each owner sees only what is theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.service import Serving, cellgraft

pytestmark = pytest.mark.slow
JSON = ["-H", "Content-Type: application/json"]


def test_keys_separate_tenants(service: Serving, query_file: Path) -> None:
    """One story, because the first key changes what the service asks of everybody."""
    mine = service.upload(query_file)["id"]
    mapping = service.map(mine, recipe="forward")["id"]
    admin = cellgraft(
        service.data_dir, "keys", "create", "me", "--scope", "admin", "--owner", "local"
    ).strip()
    without = service.curl("/v1/queries")
    assert (without.status, without.json["type"]) == (401, "unauthenticated")
    assert without.headers["www-authenticate"] == "Bearer"
    assert service.curl("/healthz").status == 200

    service.key = admin
    given = json.dumps({"name": "sequencer", "owner": "lab-2", "scopes": ["submit", "read"]})
    other = service.curl("/v1/keys", *JSON, "-d", given).json
    assert service.get(f"/v1/queries/{mine}")["state"] == "ready"

    service.key = other["key"]
    for path in (
        f"/v1/queries/{mine}",
        f"/v1/mappings/{mapping}",
        f"/v1/mappings/{mapping}/events",
        f"/v1/mappings/{mapping}/results",
        f"/v1/mappings/{mapping}/results/latent.npy",
    ):
        assert service.curl(path).status == 404, path
    assert service.ask(mine).json["type"] == "unknown-query"
    for method, path in (
        ("DELETE", f"/v1/queries/{mine}?cascade=true"),
        ("DELETE", f"/v1/mappings/{mapping}"),
        ("POST", f"/v1/mappings/{mapping}/cancel"),
    ):
        assert service.curl(path, "-X", method).status == 404, path
    assert service.get("/v1/queries")["items"] == []
    assert service.get("/v1/mappings")["items"] == []
    theirs = service.checked(query_file)["id"]
    assert service.map(theirs, recipe="forward")["state"] == "succeeded"
    assert service.curl("/v1/keys").json["type"] == "forbidden"

    service.key = admin
    assert service.curl(f"/v1/queries/{theirs}").status == 404
    assert service.curl(f"/v1/keys/{other['id']}", "-X", "DELETE").status == 200
    service.key = other["key"]
    assert service.curl("/v1/queries").status == 401
    service.key = admin[:-1] + ("0" if admin[-1] != "0" else "1")
    assert service.curl("/v1/queries").status == 401
