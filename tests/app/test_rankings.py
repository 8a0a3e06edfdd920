"""Ranking references: the job, the order, who sees what, and what deleting ends."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.coverage import Coverage
from app.database import Database
from app.fsck import check_everything
from app.jobs import Claim, cancel_job, fail_job
from app.problems import NotCounts, UnknownRanking
from app.ranked_references import RankedReference
from app.rankings import record_ranking
from app.retirement import retire_version
from app.storage import LocalStorage
from app.tables import Event, Job, Query, Ranking, ReferenceVersion
from app.work import RankWork, describe_work

from .factories import GENES, asked, built, checked, claimed, uploaded
from .test_keys import key_for

FIGURES = {
    "explained": 0.9,
    "why_not": None,
    "misfit": 0.12,
    "misfit_error": 0.01,
    "own_misfit": 0.02,
    "own_cells": "held-out",
    "library_size": 200,
    "n_cells": 400,
    "unexplained_genes": [{"gene": "LYZ", "share": 0.1, "expected": 0.01}],
}


def path(query: Query) -> str:
    return f"/v1/queries/{query.id}/ranking"


def work_of(database: Database, claim: Claim) -> RankWork:
    with database.reading() as session:
        work = describe_work(session, claim)
    assert isinstance(work, RankWork)
    return work


def finish(database: Database, **explained: float | dict[str, Any]) -> bool:
    """What a worker does: `explained` by name of the reference, or its problem."""
    claim = claimed(database, "rank")
    items = []
    for version in work_of(database, claim).versions:
        found = explained.get(version.manifest["name"])
        if isinstance(found, dict):
            items.append({"version_id": version.version_id, "problem": found})
        elif found is not None:
            items.append({"version_id": version.version_id, **FIGURES, "explained": found})
    with database.writing() as session:
        return record_ranking(session, claim, items=items)


def rows(database: Database) -> list[int]:
    def counted(session: Session, table: type[Any], *where: Any) -> int:
        return session.scalar(select(func.count()).select_from(table).where(*where)) or 0

    with database.reading() as session:
        return [counted(session, Ranking), counted(session, Job, Job.kind == "rank")]


def test_the_best_reference_comes_first(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage, name="lung")
    built(database, storage, name="pancreas")
    elsewhere = {"genes": {"ids": ["A", "B", "C", "D"]}}
    built(database, storage, name="alien", **elsewhere)
    half = {"genes": {"ids": ["CD3D", "MS4A1", "X", "Y"]}, "thresholds": {"refuse_below": 0.6}}
    built(database, storage, name="halved", **half)
    query = checked(database, storage)
    answer = client.post(path(query))
    assert answer.status_code == 202
    assert answer.headers["location"] == path(query)
    assert (answer.json()["state"], answer.json()["items"]) == ("queued", [])
    assert finish(database, lung=0.12, pancreas=0.93, halved=0.99)
    told = client.get(path(query), params={"wait": 5}).json()
    assert (told["state"], told["terminal"], told["progress"]) == ("succeeded", True, 1.0)
    assert [item["reference"] for item in told["items"]] == ["pancreas", "lung", "halved", "alien"]
    best, wrong, few, none = told["items"]
    assert best["score"] == best["explained"] == 0.93
    assert best["unexplained_genes"] == FIGURES["unexplained_genes"]
    assert best["verdict"] == "It explains these cells well."
    assert "another tissue" in wrong["verdict"]
    assert few["advice"] == "refused"
    assert "2 of 4 genes" in few["verdict"]
    assert none["verdict"] == "The query has none of this reference's genes."
    assert (none["n_matched"], none["explained"], none["score"]) == (0, None, None)
    assert client.get(f"/v1/queries/{query.id}").json()["links"]["ranking"] == path(query)


def test_a_reference_that_failed_is_told_and_the_others_stand(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    for name in ("broken", "sound", "untouched"):
        built(database, storage, name=name)
    query = checked(database, storage)
    client.post(path(query))
    problem = {"type": "damaged-reference", "detail": "Its files are damaged."}
    finish(database, broken=problem, sound=0.7)
    told = client.get(path(query)).json()
    assert [item["reference"] for item in told["items"]] == ["sound", "broken", "untouched"]
    assert told["items"][1]["problem"] == problem
    assert "Its files are damaged." in told["items"][1]["verdict"]
    assert told["items"][2]["verdict"].startswith("Not compared")
    assert told["problem"] is None


def test_only_the_newest_ready_version_of_a_reference_is_ranked(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    for _ in range(2):
        built(database, storage, name="lung")
    query = checked(database, storage)
    client.post(path(query))
    finish(database, lung=0.8)
    (item,) = client.get(path(query)).json()["items"]
    assert item["version"] == 2


def test_asking_twice_is_one_ranking_and_again_later_another(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage, name="lung")
    query = checked(database, storage)
    first, second = (client.post(path(query)).json() for _ in range(2))
    assert first["id"] == second["id"]
    finish(database, lung=0.5)
    built(database, storage, name="newer")
    third = client.post(path(query)).json()
    assert third["id"] != first["id"]
    assert third["state"] == "queued"
    assert rows(database) == [1, 1]
    finish(database, lung=0.5, newer=0.7)
    names = [item["reference"] for item in client.get(path(query)).json()["items"]]
    assert names == ["newer", "lung"]


def test_a_ranking_waits_for_the_check_and_fails_with_it(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    query = uploaded(database, storage)
    assert client.post(path(query)).status_code == 202
    with pytest.raises(AssertionError):
        claimed(database, "rank")
    with database.writing() as session:
        fail_job(session, claimed(database, "check"), NotCounts("No.", fix="Counts."))
    told = client.get(path(query)).json()
    assert (told["state"], told["problem"]["type"]) == ("failed", "not-counts")
    again = client.post(path(query))
    assert (again.status_code, again.json()["type"]) == (409, "query-rejected")


def test_what_was_not_asked_for_is_not_found(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    query = checked(database, storage)
    for method in ("GET", "DELETE"):
        answer = client.request(method, path(query))
        assert (answer.status_code, answer.json()["type"]) == (404, "unknown-ranking")
        other = client.request(method, "/v1/queries/none/ranking")
        assert (other.status_code, other.json()["type"]) == (404, "unknown-query")


def test_others_see_neither_the_query_nor_what_is_hidden_from_them(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    for name in ("open", "shut"):
        built(database, storage, name=name)
    query = checked(database, storage, owner="lab-b")
    client.put("/v1/references/shut/visibility", json={"owners": ["lab-a"]})
    mine = key_for(database, "read", "submit", owner="lab-b")
    theirs = key_for(database, "read", "submit", owner="lab-a")
    reads = key_for(database, "read", owner="lab-b")
    for method in ("GET", "POST", "DELETE"):
        assert client.request(method, path(query), headers=theirs).status_code == 404
    assert client.post(path(query), headers=reads).status_code == 403
    assert client.post(path(query), headers=mine).status_code == 202
    claim = claimed(database, "rank")
    assert [v.manifest["name"] for v in work_of(database, claim).versions] == ["open"]


def test_a_reference_that_is_shut_or_withdrawn_later_is_left_out(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    for name in ("open", "shut", "old"):
        built(database, storage, name=name)
    query = checked(database, storage, owner="lab-b")
    mine = key_for(database, "read", "submit", owner="lab-b")
    admin = key_for(database, "admin", owner="lab-c")
    client.post(path(query), headers=mine)
    finish(database, open=0.9, shut=0.8, old=0.7)
    told = client.get(path(query), headers=mine).json()["items"]
    assert [item["reference"] for item in told] == ["open", "shut", "old"]
    client.put("/v1/references/shut/visibility", json={"owners": ["lab-a"]}, headers=admin)
    with database.writing() as session:
        retire_version(session, name="old", version=1, to="withdrawn", reason="No.", by="me")
    told = client.get(path(query), headers=mine).json()["items"]
    assert [item["reference"] for item in told] == ["open"]


def test_deleting_a_ranking_ends_it(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    client.post(path(query))
    claim = claimed(database, "rank")
    assert client.delete(path(query)).status_code == 204
    with database.writing() as session:
        assert not record_ranking(session, claim, items=[])
    assert client.get(path(query)).json()["type"] == "unknown-ranking"
    assert rows(database) == [0, 0]
    with database.reading() as session:
        with pytest.raises(UnknownRanking):
            describe_work(session, claim)
        kinds = list(session.scalars(select(Event.kind).where(Event.kind.like("rank.%"))))
    assert kinds == ["rank.queued", "rank.running", "rank.deleted"]


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_a_ranking_goes_with_its_query(
    client: TestClient, database: Database, storage: LocalStorage, state: str
) -> None:
    built(database, storage)
    query = checked(database, storage)
    client.post(path(query))
    if state == "running":
        claimed(database, "rank")
    if state == "succeeded":
        finish(database, pbmc=0.9)
    assert client.delete(f"/v1/queries/{query.id}").status_code == 204
    assert rows(database) == [0, 0]
    with database.reading() as session:
        assert check_everything(session, storage, tell=lambda key: None) == []


def test_a_ranking_neither_hinders_nor_outlives_mappings(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    client.post(path(query))
    asked(database, query)
    assert client.delete(f"/v1/queries/{query.id}").status_code == 409
    assert rows(database) == [1, 1]
    assert client.delete(f"/v1/queries/{query.id}?cascade=true").status_code == 204
    assert rows(database) == [0, 0]


def test_a_cancelled_ranking_makes_room(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    client.post(path(query))
    with database.writing() as session:
        assert cancel_job(session, claimed(database, "rank"))
    assert client.get(path(query)).json()["state"] == "cancelled"
    assert client.post(path(query)).json()["state"] == "queued"


def beside(covered: float, explained: float | None, **changes: Any) -> RankedReference:
    figures = {"n_matched": round(4 * covered), "n_panel": 4, "share": covered}
    coverage = Coverage(
        **{
            **figures,
            "expected_expression_covered": covered,
            "query_column": "index",
            "reference_column": "ids",
            "query_examples": tuple(GENES),
            "reference_examples": tuple(GENES),
            "refuse_below": 0.0,
            "warn_below": 0.8,
            **changes,
        }
    )
    found = None if explained is None else {"explained": explained}
    return RankedReference(ReferenceVersion(name="any", version=1), coverage, 0.3, found)


def test_what_is_explained_of_few_genes_counts_for_little() -> None:
    few, many = beside(0.25, 0.9), beside(1.0, 0.6)
    assert beside(0.25, 0.9, expected_expression_covered=0.1).verdict.startswith("Too few genes")
    assert many.place < few.place < beside(1.0, None).place
    assert beside(1.0, None).place < beside(1.0, 0.9, refuse_below=1.1).place
    assert beside(1.0, 0.9, refuse_below=1.1).place < beside(0.0, None).place
    assert few.verdict == "It explains these cells well. But the query has only 1 of 4 genes."
    assert beside(1.0, 0.5).verdict == "It explains these cells in part."
    assert beside(1.0, 0.29).verdict.startswith("It explains these cells poorly")
