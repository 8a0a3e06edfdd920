"""Versions that are deprecated or withdrawn: what maps, what is warned of, what stays."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from app.database import Database
from app.mappings import record_results
from app.problems import ReferenceNotReady
from app.references import submit_build
from app.retirement import retire_version
from app.storage import LocalStorage
from app.tables import Event, QueryMapping
from app.work import describe_mapping

from .factories import BELL, GENES, asked, built, checked, claimed, mapped, record
from .test_keys import key_for
from .test_ownership import meanwhile, stored

REASON = "Two donors were swapped."


def retire(client: TestClient, verb: str, version: int = 1, **body: object) -> None:
    here = f"/v1/references/pbmc/versions/{version}/{verb}"
    answer = client.post(here, json={"reason": REASON, **body})
    assert answer.status_code == 200, answer.text


def test_a_deprecated_version_maps_and_says_so(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    built(database, storage)
    query = checked(database, storage)
    before = mapped(database, storage, query)
    retire(client, "deprecate", 2, successor="pbmc@1")
    shown = client.get("/v1/references/pbmc/versions/2").json()
    assert (shown["state"], shown["state_reason"], shown["successor"]) == (
        "deprecated",
        REASON,
        "pbmc@1",
    )
    assert client.get("/v1/references/pbmc").json()["version"] == 1
    body = {"query": query.id, "reference": "pbmc"}
    default = client.post("/v1/mappings", json=body)
    assert (default.json()["version"], default.json()["warnings"]) == (1, [])
    named = client.post("/v1/mappings", json={**body, "version": 2})
    assert (named.status_code, named.json()["version"]) == (202, 2)
    (warning,) = named.json()["warnings"]
    assert warning["code"] == "reference-deprecated"
    assert (warning["reason"], warning["successor"]) == (REASON, "pbmc@1")
    assert REASON in warning["detail"]
    assert "pbmc@1" in warning["fix"]
    for mapping_id in (before.id, named.json()["id"]):
        assert client.get(f"/v1/mappings/{mapping_id}").json()["warnings"] == [warning]
    listed = {each["id"]: each["warnings"] for each in client.get("/v1/mappings").json()["items"]}
    assert listed[before.id] == [warning]
    assert listed[default.json()["id"]] == []


def test_a_withdrawn_version_is_refused_and_its_results_stay(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    built(database, storage)
    query = checked(database, storage)
    done = mapped(database, storage, query)
    running = asked(database, query)
    claim = claimed(database, "map")
    retire(client, "withdraw", 2, successor="pbmc@1")
    body = {"query": query.id, "reference": "pbmc", "version": 2}
    answers = [
        client.post("/v1/mappings", json=body),
        client.put("/v1/map?reference=pbmc&version=2", content=b"cells"),
    ]
    for answer in answers:
        refused = answer.json()
        assert (answer.status_code, refused["type"]) == (409, "reference-not-ready")
        assert (refused["state"], refused["reason"]) == ("withdrawn", REASON)
        assert REASON in refused["detail"]
        assert refused["fix"] == "Use pbmc@1."
    results = client.get(f"/v1/mappings/{done.id}/results/latent.csv")
    assert (results.status_code, results.content[:4]) == (200, b"cell")
    with database.writing() as session:
        assert record_results(
            session, claim, results_prefix=f"mappings/{running.id}/1", results=[], summary={}
        )
    ended = client.get(f"/v1/mappings/{running.id}").json()
    assert (ended["state"], ended["warnings"][0]["code"]) == ("succeeded", "reference-withdrawn")
    cells = client.get("/v1/references/pbmc/versions/2/cells.parquet")
    assert (cells.status_code, cells.content) == (200, b"cells")


def test_deprecation_changes_the_etag(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    here = f"/v1/mappings/{mapping.id}"
    etag = client.get(here).headers["ETag"]
    assert client.get(here, headers={"If-None-Match": etag}).status_code == 304
    retire(client, "deprecate")
    assert client.get(here, headers={"If-None-Match": etag}).status_code == 200


def test_a_name_whose_versions_are_all_deprecated_has_no_default(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    retire(client, "deprecate")
    body = {"query": query.id, "reference": "pbmc"}
    refused = client.post("/v1/mappings", json=body)
    assert (refused.status_code, refused.json()["state"]) == (409, "deprecated")
    assert "pbmc@1" in refused.json()["fix"]


def test_what_cannot_be_retired(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    built(database, storage)
    query = checked(database, storage)
    client.post("/v1/references", json={"query": query.id, "name": "pbmc"})
    here = "/v1/references/pbmc/versions"
    for version, verb, body, status, kind in (
        (3, "deprecate", {"reason": REASON}, 409, "wrong-reference-state"),
        (3, "withdraw", {"reason": REASON}, 409, "wrong-reference-state"),
        (4, "withdraw", {"reason": REASON}, 404, "unknown-reference"),
        (1, "withdraw", {"reason": " "}, 422, "malformed-request"),
        (1, "withdraw", {}, 422, "malformed-request"),
        (1, "withdraw", {"reason": REASON, "successor": "pbmc"}, 422, "malformed-request"),
        (1, "withdraw", {"reason": REASON, "successor": "pbmc@1"}, 422, "malformed-request"),
        (1, "withdraw", {"reason": REASON, "successor": "pbmc@3"}, 422, "malformed-request"),
        (1, "withdraw", {"reason": REASON, "successor": "none@1"}, 404, "unknown-reference"),
    ):
        answer = client.post(f"{here}/{version}/{verb}", json=body)
        assert (answer.status_code, answer.json()["type"]) == (status, kind), (version, verb, body)
    retire(client, "withdraw")
    back = client.post(f"{here}/1/deprecate", json={"reason": REASON})
    assert (back.status_code, back.json()["state"]) == (409, "withdrawn")
    submitter = key_for(database, "read", "submit")
    for verb in ("deprecate", "withdraw"):
        answer = client.post(f"{here}/2/{verb}", json={"reason": REASON}, headers=submitter)
        assert (answer.status_code, answer.json()["type"]) == (403, "forbidden")


def test_another_reason_replaces_the_first_and_both_are_in_the_events(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    retire(client, "deprecate")
    retire(client, "deprecate", reason="It was one donor.")
    assert client.get("/v1/references/pbmc").json()["state_reason"] == "It was one donor."
    with database.reading() as session:
        told = session.scalars(
            select(Event.data).where(Event.kind == "reference.deprecated").order_by(Event.id)
        ).all()
    assert [each["reason"] for each in told] == [REASON, "It was one donor."]
    assert (told[0]["reference"], told[0]["version"], told[0]["by"]) == ("pbmc", 1, "local")


def test_no_mapping_slips_in_beside_a_withdrawal(database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    query = checked(database, storage)
    with database.writing() as session:
        retired = retire_version  # holds the row until its commit
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session, "commit", session.flush)
            retired(session, name="pbmc", version=1, to="withdrawn", reason=REASON, by="local")
        with meanwhile(database, lambda other: stored(other, query.id)) as mapping:
            session.commit()
            with pytest.raises(ReferenceNotReady, match=REASON):
                mapping.result()


def test_every_answer_says_when_surgery_can_change_nothing(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    blind = {"n_genes": len(GENES), "encode_covariates": False}
    built(database, storage, architecture=blind)
    query = checked(database, storage)
    asked_for = client.post("/v1/mappings", json={"query": query.id, "reference": "pbmc"})
    (warning,) = asked_for.json()["warnings"]
    assert warning["code"] == "surgery-has-no-effect"
    here = f"/v1/mappings/{asked_for.json()['id']}"
    assert client.get(here).json()["warnings"] == [warning]
    record(database, storage, asked_row(database, asked_for.json()["id"]), claimed(database, "map"))
    assert client.get(here).json()["warnings"] == [warning]
    assert client.get("/v1/mappings").json()["items"][0]["warnings"] == [warning]
    with database.reading() as session:
        told = describe_mapping(session, asked_for.json()["id"]).reference_facts["warnings"]
    assert told == [warning]


def asked_row(database: Database, mapping_id: str) -> QueryMapping:
    with database.reading() as session:
        return session.get_one(QueryMapping, mapping_id)


def test_a_successor_that_is_withdrawn_itself_is_not_recommended(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    built(database, storage)
    retire(client, "deprecate", 1, successor="pbmc@2")
    retire(client, "withdraw", 2)
    query = checked(database, storage)
    body = {"query": query.id, "reference": "pbmc", "version": 1}
    (warning,) = client.post("/v1/mappings", json=body).json()["warnings"]
    assert warning["successor"] is None
    assert "pbmc@2" not in warning["fix"]


def test_the_deprecated_version_is_named_where_no_other_can_be_used(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    retire(client, "deprecate", 1)
    query = checked(database, storage)
    with database.writing() as session:
        submit_build(
            session, BELL, owner="local", name="pbmc", query_id=query.id, options={}, max_attempts=3
        )
    answer = client.post("/v1/mappings", json={"query": query.id, "reference": "pbmc"})
    assert answer.status_code == 409
    assert "pbmc@1" in answer.json()["fix"]
