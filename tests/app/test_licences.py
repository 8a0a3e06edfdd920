"""Licences and citations: their form at the build, and every answer that names a version."""

from __future__ import annotations

from typing import Any

import pytest
from alembic import command
from starlette.testclient import TestClient

from app.database import Database, migration_config
from app.licences import LONGEST_CITATION, check_terms
from app.problems import MalformedRequest
from app.storage import LocalStorage

from .factories import asked, built, checked, uploaded

TERMS = {"licence": "CC-BY-4.0", "citation": "Doe et al. 2026, doi:10.1/x"}


def named(answer: Any) -> dict[str, Any]:
    return {name: answer[name] for name in TERMS}


def test_every_answer_that_names_a_version_has_its_terms(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage, **TERMS)
    query = checked(database, storage)
    mapping = asked(database, query)
    here = "/v1/references/pbmc"
    shown = client.get(here).json()
    for answer in (
        shown,
        shown["versions"][0],
        shown["description"],
        client.get("/v1/references").json()["items"][0],
        client.get(f"{here}/versions/1").json(),
        client.get(f"{here}/genes").json(),
        client.get(f"/v1/queries/{query.id}").json()["gene_coverage"][0],
        client.put(f"{here}/aliases/stable", json={"version": 1}).json(),
        client.get(f"{here}/versions/1/impact").json(),
    ):
        assert named(answer) == TERMS
    for answer in (
        client.get(f"/v1/mappings/{mapping.id}").json(),
        client.get("/v1/mappings").json()["items"][0],
        client.post("/v1/mappings", json={"query": query.id, "reference": "pbmc"}).json(),
    ):
        assert {name: answer[f"reference_{name}"] for name in TERMS} == TERMS


@pytest.mark.parametrize(
    "licence",
    [
        "CC-BY-4.0",
        "MIT",
        "GPL-2.0+",
        "Apache-2.0 WITH LLVM-exception",
        "(MIT OR CC0-1.0) AND LicenseRef-lab",
        "DocumentRef-a:LicenseRef-b",
    ],
)
def test_what_spdx_looks_like(licence: str) -> None:
    check_terms({"licence": licence})


@pytest.mark.parametrize(
    "licence",
    ["", "CC BY 4.0", "free for all!", "MIT OR", "(MIT", "MIT\n", "ΜΙΤ", "a" * 256, "MIT or ISC"],
)
def test_what_it_does_not_look_like(licence: str) -> None:
    with pytest.raises(MalformedRequest, match="SPDX"):
        check_terms({"licence": licence})


def test_a_build_with_wrong_terms_is_refused(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    body = {"query": uploaded(database, storage).id, "name": "lung"}
    for terms, pointer in (
        ({"licence": "CC BY 4.0"}, "/licence"),
        ({"citation": "x" * (LONGEST_CITATION + 1)}, "/citation"),
    ):
        answer = client.post("/v1/references", json={**body, **terms})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert client.post("/v1/references", json={**body, **TERMS}).status_code == 202


def test_versions_from_before_get_their_terms_from_the_manifest(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage, **TERMS)
    built(database, storage)
    with database.engine.begin() as connection:
        command.downgrade(migration_config(connection), "0004")
    database.migrate()
    versions = client.get("/v1/references/pbmc").json()["versions"]
    assert [named(each) for each in versions] == [TERMS, dict.fromkeys(TERMS)]
