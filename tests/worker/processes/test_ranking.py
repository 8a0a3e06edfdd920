"""Rankings through a parent and a child: one order a reference, and each fails alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.bell import PollingBell
from app.database import Database
from app.keys import LOCAL_ADMINISTRATOR
from app.queries import delete_query
from app.rankings import submit_ranking
from app.storage import LocalStorage
from app.tables import Job, Query, Ranking
from tests.app.factories import built, checked
from worker import ranking
from worker.parent import Parent
from worker.workplace import Workplace

from .conftest import TIMING, Running, Work

Ask = Callable[..., tuple[Query, str]]


@pytest.fixture
def ask(database: Database, storage: LocalStorage, place: Workplace) -> Iterator[Ask]:
    """References of these names, a query, and a parent that ranks them for it."""
    started = []

    def begin(*names: str, **manifest: Any) -> tuple[Query, str]:
        for name in names:
            built(database, storage, name=name, **manifest)
        query = checked(database, storage)
        with database.writing() as session:
            _, job = submit_ranking(
                session,
                PollingBell(),
                caller=LOCAL_ADMINISTRATOR,
                query_id=query.id,
                max_attempts=3,
            )
        started.append(Running(Parent(database, place, TIMING)))
        return query, job.id

    yield begin
    for each in started:
        each.stop()


def items_of(session: Session) -> list[dict[str, Any]]:
    return list(session.scalars(select(Ranking)).one().items or ())


def test_every_reference_is_compared_and_fails_alone(
    ask: Ask, work: Work, database: Database
) -> None:
    _, job_id = ask("fault", "refuse", "sound")
    job = work.finish(job_id, "succeeded")
    assert job.attempt == 1
    with database.reading() as session:
        items = items_of(session)
    told = sorted(item.get("problem", {}).get("type", "compared") for item in items)
    assert told == ["compared", "damaged-reference", "internal-fault"]
    assert [item["n_cells"] for item in items if "explained" in item] == [3]


def test_references_without_a_common_gene_are_not_loaded(
    ask: Ask, work: Work, database: Database
) -> None:
    _, job_id = ask("hang", genes={"ids": ["A", "B", "C", "D"]})
    work.finish(job_id, "succeeded")
    with database.reading() as session:
        assert items_of(session) == []


def test_no_more_than_the_best_covered_are_loaded(
    ask: Ask, work: Work, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "MOST_COMPARED", 1)
    _, job_id = ask("one", "two")
    work.finish(job_id, "succeeded")
    with database.reading() as session:
        assert len(items_of(session)) == 1


def test_deleting_the_query_ends_its_ranking(
    ask: Ask, work: Work, database: Database, storage: LocalStorage
) -> None:
    query, job_id = ask("hang")
    work.wait(job_id, lambda job: job.state == "running" and job.stage == "comparing")
    with database.writing() as session:
        for prefix in delete_query(session, owner="local", query_id=query.id):
            storage.delete(prefix)
    build = work.build(name="next")  # the child is free again, or this would wait for ever
    work.finish(build.job_id, "succeeded")
    with database.reading() as session:
        assert session.scalars(select(Job).where(Job.kind == "rank")).all() == []
