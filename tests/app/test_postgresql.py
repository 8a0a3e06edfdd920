"""What only PostgreSQL can do: let two in at once, wait for locks, refuse a value, undo one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import InternalError
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.columns import utc_now
from app.database import Database
from app.engines import open_engine
from app.mappings import delete_mapping
from app.problems import UnknownMapping
from app.queries import delete_query
from app.service import Service
from app.storage import LocalStorage
from app.tables import IdempotencyKey, Job, ReferenceVersion
from app.watcher import Watcher, revisions_of
from tests.postgresql import Databases

from .factories import asked, built, checked, claimed, uploaded

LOCK_SECONDS = 0.4


@pytest.fixture
def database_url(postgresql_url: str) -> str:
    return postgresql_url


@pytest.fixture
def impatient(database_url: str, service: Service) -> Iterator[Service]:
    """The service, with connections that hardly wait for locks."""
    opened = Database(f"{database_url}?options=-c%20lock_timeout={int(LOCK_SECONDS * 1000)}")
    yield replace(service, database=opened, watcher=Watcher(revisions_of(opened)))
    opened.close()


def key_row(key: str, mapping_id: str) -> IdempotencyKey:
    return IdempotencyKey(owner="local", key=key, request_sha256="0" * 64, mapping_id=mapping_id)


def in_background(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start it; what it returns, or raises, comes into the list."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(work())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


def test_a_connection_is_told_what_it_may_wait_for(database: Database) -> None:
    with database.writing() as session:
        told = {
            name: session.scalar(text(f"SHOW {name}"))
            for name in (
                "TimeZone",
                "transaction_isolation",
                "statement_timeout",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
            )
        }
    assert list(told.values()) == ["UTC", "read committed", "30s", "10s", "1min"]


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_way_to_write_the_url(scheme: str, database_url: str) -> None:
    engine = open_engine(database_url.replace("postgresql", scheme, 1))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()


def test_other_databases_are_refused_without_telling_the_password() -> None:
    with pytest.raises(ValueError, match="mysql") as refused:
        open_engine("mysql://me:secret@host/name")
    assert "secret" not in str(refused.value)


def test_processes_that_start_together_migrate_once(databases: Databases) -> None:
    name = databases.create()
    opened = [Database(databases.url_of(name)) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(Database.migrate, opened))
    with opened[0].reading() as session:
        assert session.scalars(select(Job)).all() == []
        assert len(session.execute(text("SELECT * FROM alembic_version")).all()) == 1
    for database in opened:
        database.close()
    databases.drop(name)


def test_a_migration_waits_longer_than_any_other_statement(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.engines.LOCK_SECONDS", 1)
    name = databases.create()
    database = Database(databases.url_of(name))
    with psycopg.connect(databases.url_of(name)) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [0x63656C6C])
        thread, ended = in_background(database.migrate)
        time.sleep(1.5)
        assert ended == []
    thread.join(30)
    assert ended == [None]
    database.close()
    databases.drop(name)


def test_a_reader_sees_one_moment_and_cannot_write(
    database: Database, storage: LocalStorage
) -> None:
    query = uploaded(database, storage)
    with database.reading() as reader:
        first = reader.scalar(select(Job.state).where(Job.id == query.job_id))
        claimed(database, "check")
        again = reader.scalar(select(Job.state).where(Job.id == query.job_id))
        assert (first, again) == ("queued", "queued")
        with pytest.raises(InternalError, match="read-only"):
            reader.execute(update(Job).values(stage="x"))


def test_a_key_whose_request_is_still_being_answered(
    client: TestClient, impatient: Service, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    body = {"query": checked(database, storage).id, "reference": "pbmc"}
    client.app.state.service = impatient  # type: ignore[attr-defined]
    with database.writing() as other:
        other.add(key_row("k", "0" * 32))
        other.flush()
        answer = client.post("/v1/mappings", json=body, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["type"]) == (409, "idempotency-key-in-progress")
    assert answer.json()["fault"] == "service"
    again = client.post("/v1/mappings", json=body, headers={"Idempotency-Key": "k"})
    assert again.status_code == 202
    assert len(client.get("/v1/mappings").json()["items"]) == 1


def test_a_key_that_another_request_used_meanwhile(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    """It has waited for the other, looks at what that one asked, and finds another request."""
    built(database, storage)
    query = checked(database, storage)
    mapping = asked(database, query)
    body = {"query": query.id, "reference": "pbmc"}
    with database.writing() as other:
        other.add(key_row("k", mapping.id))
        other.flush()
        thread, ended = in_background(
            lambda: client.post("/v1/mappings", json=body, headers={"Idempotency-Key": "k"})
        )
        time.sleep(0.5)
        other.commit()
    thread.join(30)
    assert (ended[0].status_code, ended[0].json()["type"]) == (422, "idempotency-key-reused")


def test_two_builds_of_one_name_at_once(
    client: TestClient, database: Database, storage: LocalStorage
) -> None:
    first = built(database, storage)
    body = {"query": checked(database, storage).id, "name": "pbmc"}
    with database.writing() as other:
        given = ("owner", "name", "options", "job_id", "query_id")
        same = {name: getattr(first, name) for name in given}
        other.add(ReferenceVersion(**same, version=2, state="building"))
        other.flush()
        thread, ended = in_background(lambda: client.post("/v1/references", json=body))
        time.sleep(0.5)
        other.commit()
    thread.join(30)
    assert (ended[0].status_code, ended[0].json()["type"]) == (409, "reference-exists")
    again = client.post("/v1/references", json=body)
    assert (again.status_code, again.json()["version"]) == (202, 3)


def test_a_lock_that_is_held_too_long_is_503(
    client: TestClient, impatient: Service, database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    client.app.state.service = impatient  # type: ignore[attr-defined]
    with database.writing() as other:
        other.get(Job, mapping.job_id, with_for_update=True)
        answer = client.post(f"/v1/mappings/{mapping.id}/cancel")
    assert (answer.status_code, answer.json()["type"]) == (503, "service-busy")
    assert answer.headers["Retry-After"]


def test_deleting_what_another_request_deletes(database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    query = checked(database, storage)
    mapping = asked(database, query)

    def delete() -> str:
        with database.writing() as session:
            return delete_mapping(session, owner="local", mapping_id=mapping.id)

    with ThreadPoolExecutor(8) as pool:
        started = [pool.submit(delete) for _ in range(8)]
    ended = [each.exception() for each in started]
    assert [error for error in ended if error is None] == [None]
    assert {type(error) for error in ended if error} == {UnknownMapping}


def test_a_worker_and_a_deletion_take_locks_in_one_order(
    database: Database, storage: LocalStorage
) -> None:
    """Whoever comes second waits; that they wait for each other cannot happen."""
    for _ in range(5):
        query = uploaded(database, storage)
        claim = claimed(database, "check")
        with database.writing() as worker:
            worker.execute(update(Job).where(Job.id == claim.job_id).values(stage="ending"))

            def delete(query_id: str = query.id) -> list[str]:
                with database.writing() as session:
                    return delete_query(session, owner="local", query_id=query_id)

            thread, ended = in_background(delete)
            time.sleep(0.1)
            worker.execute(
                text("UPDATE queries SET state = 'rejected' WHERE id = :id"), {"id": query.id}
            )
            worker.commit()
        thread.join(30)
        assert ended == [[f"queries/{query.id}"]]


def test_what_the_database_undid_is_done_again(database: Database, storage: LocalStorage) -> None:
    """Two that take two locks in opposite order: one is undone, and both end well."""
    jobs = [uploaded(database, storage).job_id for _ in range(2)]
    meeting = threading.Barrier(2, timeout=10)
    tries: list[int] = []

    def touch(first: int, second: int) -> None:
        def use_case(session: Session) -> None:
            tries.append(first)
            for number, which in enumerate((first, second)):
                session.execute(
                    update(Job).where(Job.id == jobs[which]).values(revision=Job.revision + 1)
                )
                if number == 0 and len(tries) <= 2:
                    meeting.wait()
            session.commit()

        database.write(use_case)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(touch, (0, 1), (1, 0)))
    assert len(tries) > 2
    with database.reading() as session:
        assert [session.get_one(Job, job_id).revision for job_id in jobs] == [3, 3]


def test_a_clash_that_stays_is_409_and_a_value_too_long_422(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store(session: Session, key: str) -> None:
        row = {"owner": "local", "key": key, "created_at": utc_now()}
        session.execute(insert(IdempotencyKey).values(**row, request_sha256="0", mapping_id="0"))
        session.commit()

    def clash(session: Session, **_: Any) -> None:
        store(session, "same")
        store(session, "same")

    module = "app.routes.mappings.mappings.cancel_mapping"
    monkeypatch.setattr(module, clash)
    clashed = client.post("/v1/mappings/x/cancel")
    assert (clashed.status_code, clashed.json()["type"]) == (409, "simultaneous-change")
    monkeypatch.setattr(module, lambda session, **_: store(session, "k" * 256))
    refused = client.post("/v1/mappings/x/cancel")
    assert (refused.status_code, refused.json()["type"]) == (422, "malformed-request")
    assert "INSERT" not in clashed.text + refused.text
