"""Owners take turns; positions say so; warm references are left to who has them."""

from __future__ import annotations

from app.database import Database
from app.jobs import claim_next, reap, something_waits
from app.mappings import view_mapping
from app.storage import LocalStorage
from app.tables import Job, QueryMapping, Worker
from app.turns import waiting
from app.workers import dismiss_worker, register_worker, workers_seen

from .factories import asked, built, checked, claimed, uploaded


def ask(database: Database, storage: LocalStorage, owner: str, count: int) -> list[QueryMapping]:
    query = checked(database, storage, owner=owner)
    return [asked(database, query) for _ in range(count)]


def positions(database: Database, mappings: list[QueryMapping]) -> list[int | None]:
    with database.reading() as session:
        return [view_mapping(session, mapping).queue_position for mapping in mappings]


def owner_of_next(database: Database) -> str:
    claim = claimed(database, "map")
    with database.reading() as session:
        return session.get_one(Job, claim.job_id).owner


def test_owners_take_turns_whoever_came_first(database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    ask(database, storage, "greedy", 4)
    ask(database, storage, "b", 2)
    ask(database, storage, "c", 1)
    order = [owner_of_next(database) for _ in range(7)]
    assert order == ["greedy", "b", "c", "greedy", "b", "greedy", "greedy"]


def test_who_comes_back_does_not_overtake(database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    ask(database, storage, "a", 2)
    ask(database, storage, "b", 2)
    assert [owner_of_next(database), owner_of_next(database)] == ["a", "b"]
    ask(database, storage, "new", 1)
    assert [owner_of_next(database) for _ in range(3)] == ["new", "a", "b"]


def test_positions_are_turns(database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    first = ask(database, storage, "a", 3)
    second = ask(database, storage, "b", 2)
    everyone = [*first, *second]
    assert positions(database, everyone) == [1, 3, 5, 2, 4]
    taken = []
    for _ in everyone:
        before = dict(zip((m.id for m in everyone), positions(database, everyone), strict=True))
        claim = claimed(database, "map")
        taken.append(before[claim.subject_id])
    assert taken == [1] * 5
    assert positions(database, everyone) == [None] * 5


def waits(database: Database, worker: str, *, patient: bool) -> bool:
    with database.reading() as session:
        return something_waits(session, worker=worker, kinds=["map"], patient=patient)


def register(database: Database, name: str, *warm: str) -> None:
    with database.writing() as session:
        register_worker(session, name, device="cpu", warm=warm)


def test_a_mapping_is_left_to_an_idle_worker_with_its_reference(
    database: Database, storage: LocalStorage
) -> None:
    version = built(database, storage)
    assert version.manifest_sha256 is not None
    ask(database, storage, "a", 2)
    register(database, "warm", version.manifest_sha256)
    register(database, "cold")
    assert not waits(database, "cold", patient=True)
    assert waits(database, "cold", patient=False)
    assert waits(database, "warm", patient=True)
    with database.writing() as session:
        assert claim_next(session, worker="cold", kinds=["map"], lease_seconds=30) is None
    claimed(database, "map", worker="warm")  # which is busy from here on
    assert waits(database, "cold", patient=True)


def test_nobody_waits_for_a_worker_that_has_gone(database: Database, storage: LocalStorage) -> None:
    version = built(database, storage)
    assert version.manifest_sha256 is not None
    ask(database, storage, "a", 1)
    register(database, "cold")
    register(database, "warm", version.manifest_sha256)
    with database.writing() as session:
        dismiss_worker(session, "warm")
    assert waits(database, "cold", patient=True)
    register(database, "silent", version.manifest_sha256)
    with database.writing() as session:
        session.get_one(Worker, "silent").seen_at -= 60
        session.commit()
    assert waits(database, "cold", patient=True)


def test_what_could_start_is_rung_for_again(database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    query = uploaded(database, storage)
    mapping = asked(database, query)
    with database.reading() as session:
        assert waiting(session) == [(query.job_id, "check")]
    claimed(database, "check")
    with database.reading() as session:
        assert waiting(session) == []
    (ready,) = ask(database, storage, "b", 1)
    with database.reading() as session:
        assert waiting(session) == [(ready.job_id, "map")]
        assert view_mapping(session, mapping).queue_position is not None


def test_a_job_that_stands_still_is_reaped_and_a_check_is_not(
    database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    ask(database, storage, "a", 1)
    uploaded(database, storage)
    still, check = claimed(database, "map"), claimed(database, "check")
    for claim in (still, check):
        with database.writing() as session:
            job = session.get_one(Job, claim.job_id)
            assert job.progress_at is not None
            job.progress_at -= 100
            session.commit()
    with database.writing() as session:
        assert reap(session) == 0
        assert reap(session, stall_seconds=200) == 0
        assert reap(session, stall_seconds=50) == 1
    with database.reading() as session:
        assert session.get_one(Job, still.job_id).state == "queued"
        assert session.get_one(Job, check.job_id).state == "running"


def test_workers_of_yesterday_are_forgotten(database: Database) -> None:
    register(database, "old")
    with database.writing() as session:
        session.get_one(Worker, "old").seen_at -= 2 * 86_400
        session.commit()
    register(database, "new")
    with database.reading() as session:
        assert session.get(Worker, "old") is None
        assert workers_seen(session, within_seconds=30) == 1
