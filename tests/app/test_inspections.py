"""The report of a file that is not kept: asked for, taken, forgotten, and never found elsewhere."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from app.columns import utc_now
from app.database import Database
from app.inspections import forget_ended
from app.jobs import fail_job
from app.problems import NotCounts
from app.queries import accept_query
from app.storage import LocalStorage
from app.tables import Job, Query

from .factories import built, claimed, inspection, published
from .test_keys import key_for

PATH = "/v1/queries:inspect"


def ask(client: TestClient, **params: Any) -> Any:
    return client.put(PATH, content=b"cells", params={"wait": 0, **params})


def rows(database: Database) -> list[int]:
    with database.reading() as session:
        counted = [select(func.count()).select_from(table) for table in (Query, Job)]
        return [session.scalar(each) or 0 for each in counted]


def accept(database: Database, storage: LocalStorage, query_id: str) -> None:
    prefix = f"queries/{query_id}/canonical-1"
    table = b'{"index": ["CD3D", "MS4A1"], "columns": {}}'
    published(storage, prefix, {"canonical.json": b"{}", "genes.json": table})
    claim = claimed(database, "check")
    assert claim.subject_id == query_id
    with database.writing() as session:
        assert accept_query(session, claim, canonical_prefix=prefix, inspection=inspection())


def refuse(database: Database) -> None:
    problem = NotCounts("These are no counts.", fix="Send counts.")
    problem.inspection = inspection(counts_from="raw/X")
    with database.writing() as session:
        assert fail_job(session, claimed(database, "check"), problem=problem)


def at_once(work: Any, *given: Any) -> threading.Thread:
    """Do a worker's part while a request waits for it."""

    def worked() -> None:
        for _ in range(200):
            try:
                work(*given)
                return
            except AssertionError:
                time.sleep(0.05)

    thread = threading.Thread(target=worked)
    thread.start()
    return thread


def test_a_report_that_comes_in_time_leaves_nothing(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    thread = at_once(refuse, database)
    answer = ask(client, wait=20)
    thread.join()
    body = answer.json()
    assert answer.status_code == 200
    assert body["terminal"]
    assert body["acceptable"] is False
    assert body["problem"]["type"].endswith("not-counts")
    assert body["links"] == {}
    assert rows(database) == [0, 0]
    assert not list(storage.root.glob("queries/*"))


def test_a_report_that_takes_longer_can_be_come_back_for(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage, name="pbmc")
    before = rows(database)
    answer = ask(client)
    assert answer.status_code == 202
    place = answer.headers["Location"]
    assert place == answer.json()["links"]["self"]
    assert answer.json()["acceptable"] is None
    thread = at_once(accept, database, storage, answer.json()["id"])
    body = client.get(place, params={"wait": 20}).json()
    thread.join()
    assert body["acceptable"] is True
    assert body["inspection"]["n_cells"] == 10
    assert [each["reference"] for each in body["gene_coverage"]] == ["pbmc"]
    assert client.delete(place).status_code == 204
    assert client.get(place).json()["type"].endswith("unknown-inspection")
    assert rows(database) == before
    assert not list(storage.root.glob(f"queries/{body['id']}*"))


def test_a_form_may_say_how_long_to_wait(client: TestClient) -> None:
    form = {"files": {"file": ("a.h5ad", b"cells")}, "data": {"wait": "0"}}
    began = time.monotonic()
    assert client.post(PATH, **form).status_code == 202
    assert time.monotonic() - began < 15  # of the 30 s that it would wait


def test_no_other_call_finds_it(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage, name="pbmc")
    listed = client.get("/v1/queries").json()["items"]
    made = ask(client).json()["id"]
    accept(database, storage, made)
    assert client.get("/v1/queries").json()["items"] == listed
    assert client.get(f"/v1/queries/{made}").status_code == 404
    assert client.delete(f"/v1/queries/{made}").status_code == 404
    assert client.post(f"/v1/queries/{made}/ranking").status_code == 404
    wanted = {"query": made, "reference": "pbmc", "batch_key": "sample"}
    assert client.post("/v1/mappings", json=wanted).status_code == 404
    assert client.get(f"/v1/inspections/{listed[0]['id']}").status_code == 404


def test_it_belongs_to_its_owner(client: TestClient, database: Database) -> None:
    mine, theirs = (key_for(database, owner=owner) for owner in ("ann", "bob"))
    place = client.put(PATH, content=b"cells", params={"wait": 0}, headers=mine).headers["Location"]
    assert client.get(place, headers=theirs).status_code == 404
    assert client.delete(place, headers=theirs).status_code == 404
    assert client.get(place, headers=mine).status_code == 200


@pytest.mark.parametrize("late", [False, True])
def test_a_report_nobody_came_for_is_forgotten_after_its_hour(
    client: TestClient, database: Database, storage: LocalStorage, late: bool
) -> None:
    ended, waiting = ask(client).json()["id"], ask(client).json()["id"]
    accept(database, storage, ended)
    before = utc_now() + timedelta(minutes=1) if late else utc_now() - timedelta(minutes=1)
    with database.writing() as session:
        prefixes = forget_ended(session, before=before)
    assert prefixes == ([f"queries/{ended}"] if late else [])
    with database.reading() as session:
        assert session.get(Query, waiting) is not None
        assert (session.get(Query, ended) is None) is late
