"""Reference versions: the registry, building, removing, and where their bundles lie."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from app.database import Database
from app.fsck import check_everything
from app.jobs import fail_job
from app.keys import LOCAL_ADMINISTRATOR
from app.problems import ReferenceBuilding, ReferenceInUse, UntrainableReference
from app.references import bundle_prefix, find_version, remove_version
from app.storage import LocalStorage
from app.tables import ReferenceVersion

from .factories import GENES, built, checked, claimed, mapped, uploaded


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
    unstated = {"licence": None, "citation": None}
    assert genes == {"name": "pbmc", "version": 2, "n_genes": 4, "ids": GENES, **unstated}
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


def test_building_with_labels(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    query = uploaded(database, storage)
    wanted = {"query": query.id, "name": "lung", "labels_key": "type"}
    asked_for = {"kind": "scanvi", "unlabeled_category": "unknown", "pretraining": True}
    assert client.post("/v1/references", json={**wanted, **asked_for}).status_code == 202
    assert client.post("/v1/references", json=wanted).status_code == 202
    with database.reading() as session:
        options = [
            find_version(session, "lung", number, caller=LOCAL_ADMINISTRATOR).options
            for number in (1, 2)
        ]
    named = ("kind", "unlabeled_category", "pretraining")
    assert [options[0][name] for name in named] == ["SCANVI", "unknown", True]
    assert [options[1][name] for name in named] == ["SCVI", None, False]
    refused = client.post("/v1/references", json={**wanted, "kind": "LINEARVI"}).json()
    assert (refused["type"], refused["errors"][0]["pointer"]) == ("malformed-request", "/kind")


def test_a_version_says_how_its_recipe_was_chosen(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    assert client.get("/v1/references/pbmc").json()["recipe_evidence"] is None  # an older version
    evidence = {"reason": "The release's, because.", "candidates": {}, "folds": []}
    built(database, storage, recipe_evidence=evidence)
    body = client.get("/v1/references/pbmc").json()
    assert body["recipe_evidence"] == {**evidence, "chosen": None, "seconds": None}
    assert "recipe_evidence" not in body["description"]
    assert body["description"]["default_recipe"]["name"] == "default"


def test_a_build_searches_for_a_recipe_unless_told_not_to(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    wanted = {"query": uploaded(database, storage).id, "name": "lung"}
    off = {"recipe_search": "off", "condition_key": "stim"}
    assert client.post("/v1/references", json=wanted).status_code == 202
    assert client.post("/v1/references", json={**wanted, **off}).status_code == 202
    with database.reading() as session:
        options = [
            find_version(session, "lung", number, caller=LOCAL_ADMINISTRATOR).options
            for number in (1, 2)
        ]
    assert [each["recipe_search"] for each in options] == ["auto", "off"]
    assert [each["condition_key"] for each in options] == [None, "stim"]
    refused = client.post("/v1/references", json={**wanted, "recipe_search": "on"}).json()
    assert (refused["type"], refused["errors"][0]["pointer"]) == (
        "malformed-request",
        "/recipe_search",
    )


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
