"""Mappings by HTTP: asked for, judged, followed, cancelled, deleted; and their results."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from app.database import Database
from app.jobs import fail_job, heartbeat
from app.mappings import record_results
from app.problems import NotCounts
from app.service import Service
from app.storage import LocalStorage
from app.tables import IdempotencyKey, Job, QueryMapping

from .factories import (
    GENES,
    asked,
    built,
    checked,
    claimed,
    inspection,
    mapped,
    uploaded,
)


def ask(client: TestClient, query_id: str, **fields: Any) -> Any:
    return client.post("/v1/mappings", json={"query": query_id, "reference": "pbmc", **fields})


def test_a_mapping_from_question_to_results(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    answer = ask(client, query.id, batch_key="sample", external_id="L1", tags=["t"])
    assert answer.status_code == 202
    body = answer.json()
    here = f"/v1/mappings/{body['id']}"
    assert answer.headers["Location"] == body["links"]["self"] == here
    assert (body["state"], body["terminal"], body["progress"]) == ("queued", False, 0)
    assert (body["query"], body["reference"], body["version"]) == (query.id, "pbmc", 1)
    assert (body["recipe"], body["options"]["batch_key"]) == ("default", ["sample"])
    assert (body["queue_position"], body["eta_seconds"], body["verdict"]) == (1, None, None)
    assert (body["external_id"], body["tags"], body["attempt"]) == ("L1", ["t"], 0)
    assert (body["results"], body["summary"], body["started_at"]) == ([], None, None)
    claim = claimed(database, "map")
    with database.writing() as session:
        heartbeat(session, claim, lease_seconds=30, stage="fitting", progress=0.5)
    body = client.get(here).json()
    assert (body["state"], body["stage"], body["progress"]) == ("running", "fitting", 0.5)
    assert body["queue_position"] is None
    assert body["eta_seconds"] >= 0
    with database.writing() as session:
        record_results(session, claim, results_prefix="p", results=[], summary={"n": 1})
    body = client.get(here).json()
    assert (body["state"], body["terminal"], body["summary"]) == ("succeeded", True, {"n": 1})
    assert body["finished_at"].endswith("Z")


@pytest.mark.parametrize(
    ("fields", "status", "kind", "said"),
    [
        ({"reference": "none"}, 404, "unknown-reference", "Known references: pbmc"),
        ({"version": 9}, 404, "unknown-reference", "version 9"),
        ({"version": 10**30}, 404, "unknown-reference", "version 1000"),
        ({"batch_key": "sampel"}, 422, "unknown-batch-column", "sample, cell_type"),
        ({"batch_key": ["sample", "x"]}, 422, "unknown-batch-column", "'x'"),
        ({"labels_key": "x"}, 422, "unknown-labels-column", "cell_type"),
        ({"size_factor_key": "sample"}, 422, "unknown-covariate", "without size factors"),
        ({"recipe": "magic"}, 422, "malformed-request", "/recipe"),
        ({"batchkey": "sample"}, 422, "malformed-request", "/batchkey"),
        ({"query": "0" * 32}, 404, "unknown-query", "0000"),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped(
    client: TestClient,
    database: Database,
    storage: LocalStorage,
    fields: dict[str, Any],
    status: int,
    kind: str,
    said: str,
) -> None:
    built(database, storage)
    answer = ask(client, checked(database, storage).id, **fields)
    assert (answer.status_code, answer.json()["type"]) == (status, kind)
    assert said in answer.json()["detail"]


def test_a_query_without_the_labels_column_is_mapped_onto_scanvi(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    labels = [{"key": "cell_type", "categories": ["B", "T"]}]
    built(database, storage, kind="scanvi", labels=labels)
    answer = ask(client, checked(database, storage).id, labels_key="x")
    assert answer.status_code == 202


def test_too_few_genes(client: TestClient, database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    stranger = checked(database, storage, genes=["Cd3d", "Ms4a1"])
    answer = ask(client, stranger.id)
    assert (answer.status_code, answer.json()["type"]) == (422, "too-few-genes")
    assert answer.json()["n_matched"] == 0
    assert answer.json()["query_examples"] == ["Cd3d", "Ms4a1"]
    assert answer.json()["reference_examples"] == GENES
    coverage = client.get(f"/v1/queries/{stranger.id}").json()["gene_coverage"]
    assert [(each["reference"], each["advice"]) for each in coverage] == [("pbmc", "refused")]


def test_thresholds_are_the_references_own(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage, thresholds={"refuse_below": 0.6, "warn_below": 0.9})
    half = checked(database, storage, genes=GENES[:2])
    most = checked(database, storage, genes=GENES[:3])
    assert ask(client, half.id).status_code == 422
    assert ask(client, most.id).status_code == 202
    coverage = client.get(f"/v1/queries/{most.id}").json()["gene_coverage"][0]
    assert (coverage["advice"], coverage["share"]) == ("low", 0.75)


def test_covariates_and_input_kind(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(
        database,
        storage,
        extra_covariates=[{"key": "sex", "categories": ["f", "m"]}],
        continuous_covariates=["age"],
    )
    answer = ask(client, checked(database, storage).id)
    assert answer.json()["type"] == "unknown-covariate"
    assert answer.json()["known"] == ["f", "m"]
    columns = [*inspection()["columns"], {"name": "sex"}, {"name": "age"}]
    complete = inspection(columns=columns, input="continuous")
    answer = ask(client, checked(database, storage, found=complete).id)
    assert (answer.status_code, answer.json()["type"]) == (422, "input-kind-mismatch")


def test_queries_checking_and_rejected(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = uploaded(database, storage)
    waiting = ask(client, query.id, batch_key="whatever")
    assert waiting.status_code == 202
    with database.writing() as session:
        fail_job(session, claimed(database, "check"), NotCounts("Row 3.", fix="Send counts."))
    shown = client.get(f"/v1/queries/{query.id}")
    assert (shown.status_code, shown.json()["state"]) == (200, "rejected")
    assert shown.json()["problem"]["type"] == "not-counts"
    failed = client.get(waiting.headers["Location"]).json()
    assert (failed["state"], failed["problem"]["type"]) == ("failed", "not-counts")
    refused = ask(client, query.id)
    assert (refused.status_code, refused.json()["type"]) == (409, "query-rejected")
    assert refused.json()["cause"]["type"] == "not-counts"


def test_a_reference_that_is_not_ready(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    query = checked(database, storage)
    started = client.post("/v1/references", json={"query": query.id, "name": "pbmc"})
    assert started.status_code == 202
    answer = ask(client, query.id)
    assert (answer.status_code, answer.json()["type"]) == (409, "reference-not-ready")
    assert answer.json()["state"] == "building"


def test_idempotency(client: TestClient, database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    query = checked(database, storage)
    body = {"query": query.id, "reference": "pbmc"}
    headers = {"Idempotency-Key": "k1"}

    def send(_: int) -> Any:
        return client.post("/v1/mappings", json=body, headers=headers)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    # Also where the database lets all of them in at once: whoever comes second gets the answer of
    # the first, which is committed by the time that the second is told of the clash.
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    other = client.post("/v1/mappings", json={**body, "recipe": "forward"}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "idempotency-key-reused")
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(QueryMapping)) == 1


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


def test_a_key_goes_with_its_mapping(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    body = {"query": checked(database, storage).id, "reference": "pbmc"}
    headers = {"Idempotency-Key": "k1"}
    first = client.post("/v1/mappings", json=body, headers=headers)
    assert client.delete(first.headers["Location"]).status_code == 204
    again = client.post("/v1/mappings", json=body, headers=headers)
    assert again.status_code == 202
    assert again.json()["id"] != first.json()["id"]


def test_the_queue_is_that_of_mappings_and_builds(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    uploaded(database, storage)
    assert ask(client, query.id).json()["queue_position"] == 1
    client.post("/v1/references", json={"query": query.id, "name": "other"})
    uploaded(database, storage)
    assert ask(client, query.id).json()["queue_position"] == 3


def test_nothing_is_updated_before_it_was_created(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    body = ask(client, checked(database, storage).id).json()
    assert body["updated_at"] >= body["created_at"]


def test_etag_and_waiting(client: TestClient, database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    here = f"/v1/mappings/{mapping.id}"
    first = client.get(here)
    etag = {"If-None-Match": first.headers["ETag"]}
    assert client.get(here, headers=etag).status_code == 304
    started = time.monotonic()
    assert client.get(f"{here}?wait=0.3", headers=etag).status_code == 304
    assert time.monotonic() - started >= 0.3
    timer = threading.Timer(0.3, lambda: claimed(database, "map"))
    timer.start()
    changed = client.get(f"{here}?wait=20", headers=etag)
    timer.join()
    assert (changed.status_code, changed.json()["state"]) == (200, "running")
    assert changed.headers["ETag"] != first.headers["ETag"]
    assert client.get(f"{here}?wait=61").json()["type"] == "malformed-request"


def test_waiting_ends_when_the_mapping_does(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    claim = claimed(database, "map")

    def finish() -> None:
        with database.writing() as session:
            record_results(session, claim, results_prefix="p", results=[], summary={})

    timer = threading.Timer(0.3, finish)
    timer.start()
    started = time.monotonic()
    assert client.get(f"/v1/mappings/{mapping.id}?wait=30").json()["state"] == "succeeded"
    timer.join()
    assert time.monotonic() - started < 10


def test_waiting_in_vain_still_tells_what_has_changed(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    timer = threading.Timer(0.2, lambda: claimed(database, "map"))
    timer.start()
    assert client.get(f"/v1/mappings/{mapping.id}?wait=1.5").json()["state"] == "running"
    timer.join()


def test_waiting_for_a_mapping_that_is_deleted(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    here = f"/v1/mappings/{mapping.id}"
    timer = threading.Timer(0.3, lambda: client.delete(here))
    timer.start()
    assert client.get(f"{here}?wait=30").status_code == 404
    timer.join()


def test_events_stream_to_the_end(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))

    def work() -> None:
        claim = claimed(database, "map")
        time.sleep(0.5)
        with database.writing() as session:
            record_results(session, claim, results_prefix="p", results=[], summary={})

    timer = threading.Timer(0.5, work)
    timer.start()
    answer = client.get(f"/v1/mappings/{mapping.id}/events")
    timer.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    states = [state for state in ("queued", "running", "succeeded") if f'"{state}"' in answer.text]
    assert states == ["queued", "running", "succeeded"]
    assert answer.text.count("event: mapping") == 3


def test_cancel_and_delete(client: TestClient, database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    query = checked(database, storage)
    waiting = asked(database, query)
    here = f"/v1/mappings/{waiting.id}"
    for _ in range(2):
        cancelled = client.post(f"{here}/cancel")
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    running = asked(database, query)
    claimed(database, "map")
    asked_to = client.post(f"/v1/mappings/{running.id}/cancel").json()
    assert (asked_to["state"], asked_to["cancel_requested"]) == ("running", True)
    assert client.delete(f"/v1/mappings/{running.id}").status_code == 204
    done = mapped(database, storage, query)
    late = client.post(f"/v1/mappings/{done.id}/cancel")
    assert (late.status_code, late.json()["type"]) == (409, "already-finished")
    assert list(storage.keys(f"mappings/{done.id}"))
    assert client.delete(f"/v1/mappings/{done.id}").status_code == 204
    assert not list(storage.keys(f"mappings/{done.id}"))
    gone = client.get(f"/v1/mappings/{done.id}")
    assert (gone.status_code, gone.json()["type"]) == (404, "unknown-mapping")


def test_lists_page_and_filter(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    tags = [["a"], ["a", 'b"c'], ["A"], ["ab"], ["a", "é"]]
    made = [
        asked(database, query, external_id=f"E{number}", tags=tuple(each)).id
        for number, each in enumerate(tags)
    ]

    def listed(**params: Any) -> list[str]:
        return [item["id"] for item in client.get("/v1/mappings", params=params).json()["items"]]

    assert listed() == made[::-1]
    assert listed(tag="a") == [made[4], made[1], made[0]]
    assert listed(tag=["a", "é"]) == [made[4]]
    assert listed(tag='b"c') == [made[1]]
    assert listed(external_id="E3") == [made[3]]
    assert listed(query="0" * 32) == []
    walked, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/mappings", params=params).json()
        walked += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert walked == made[::-1]
    beyond = base64.urlsafe_b64encode(b"0001-01-01T00:00:00+23:00 x").decode().rstrip("=")
    nul = base64.urlsafe_b64encode(b"2026-01-01T00:00:00+00:00 \0").decode().rstrip("=")
    for bad in ("zzz", beyond, nul):
        answer = client.get("/v1/mappings", params={"cursor": bad})
        assert answer.json()["type"] == "malformed-request"
    assert client.get("/v1/mappings?limit=0").json()["type"] == "malformed-request"


def test_settings_reach_the_job(
    client: TestClient, database: Database, storage: LocalStorage, service: Service
) -> None:
    client.put("/v1/queries", content=b"x")
    with database.reading() as session:
        assert session.scalars(select(Job)).one().max_attempts == service.max_attempts
