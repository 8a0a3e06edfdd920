"""A mapping is split into shards, waits for them, goes on; and whatever ends it ends them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from app.database import Database
from app.fsck import check_everything
from app.jobs import Claim, fail_job, heartbeat, reap, release_job
from app.mappings import cancel_mapping, delete_mapping, view_mapping
from app.problems import NotFinite
from app.queries import delete_query
from app.shards import (
    fail_torn_mappings,
    forget_files,
    record_shard,
    shards_prefix,
    spent_shards,
    split_mapping,
)
from app.storage import LocalStorage
from app.tables import Event, Job, QueryMapping, Shard
from app.turns import waiting
from app.work import MapWork, ShardWork, describe_work

from .factories import asked, built, checked, claimed, published, record
from .test_jobs import try_claim

RANGES = [(0, 1024), (1024, 2048), (2048, 2500)]


@pytest.fixture
def mapping(database: Database, storage: LocalStorage) -> QueryMapping:
    """A mapping that has just been split in three."""
    built(database, storage)
    return split(database, asked(database, checked(database, storage)))


def split(database: Database, mapping: QueryMapping) -> QueryMapping:
    claim = claimed(database, "map")
    assert claim.subject_id == mapping.id
    with database.writing() as session:
        assert split_mapping(session, claim, RANGES)
    return mapping


def job_of(database: Database, mapping: QueryMapping) -> Job:
    with database.reading() as session:
        return session.get_one(Job, mapping.job_id)


def states(database: Database) -> list[str]:
    """Of the shards, sorted."""
    with database.reading() as session:
        return sorted(session.scalars(select(Job.state).where(Job.kind == "shard")))


def read(database: Database, storage: LocalStorage, claim: Claim) -> bool:
    with database.writing() as session:
        work = describe_work(session, claim)
    assert isinstance(work, ShardWork)
    prefix = f"{shards_prefix(work.mapping.mapping_id)}/{work.start}-{claim.attempt}"
    published(storage, prefix, {"z.npy": b"z"})
    with database.writing() as session:
        return record_shard(session, claim, prefix=prefix)


def test_a_mapping_waits_until_every_shard_is_read(
    database: Database, storage: LocalStorage, mapping: QueryMapping
) -> None:
    told = []
    for _ in RANGES:
        assert try_claim(database, "map") is None
        assert read(database, storage, claimed(database, "shard"))
        job = job_of(database, mapping)
        told.append((job.state, job.stage, round(job.progress, 3), job.waits_for))
    assert told == [
        ("queued", "reading", 0.05, 2),
        ("queued", "reading", 0.1, 1),
        ("queued", "reading", 0.15, 0),
    ]
    claim = claimed(database, "map")
    with database.reading() as session:
        work = describe_work(session, claim)
    assert isinstance(work, MapWork)
    here = shards_prefix(mapping.id)
    assert work.shards == (f"{here}/0-1", f"{here}/1024-1", f"{here}/2048-1")


def test_each_shard_that_is_read_is_a_change_that_waiting_clients_see(
    database: Database, storage: LocalStorage, mapping: QueryMapping
) -> None:
    before = job_of(database, mapping).revision
    read(database, storage, claimed(database, "shard"))
    assert job_of(database, mapping).revision == before + 1


def test_a_split_is_no_attempt(database: Database, mapping: QueryMapping) -> None:
    job = job_of(database, mapping)
    assert job.max_attempts - job.attempt == 3
    with database.reading() as session:
        left = select(Job.max_attempts - Job.attempt).where(Job.kind == "shard")
        assert set(session.scalars(left)) == {3}


def test_shards_stand_where_their_mapping_stands(database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    query = checked(database, storage)
    first, second = asked(database, query), asked(database, query)
    split(database, first)
    kinds = [claimed(database, "map", "shard").kind for _ in range(4)]
    assert kinds == ["shard", "shard", "shard", "map"]
    assert job_of(database, second).state == "running"


def test_what_waits_for_shards_has_no_place_in_the_queue(
    database: Database, storage: LocalStorage, mapping: QueryMapping
) -> None:
    with database.reading() as session:
        view = view_mapping(session, session.get_one(QueryMapping, mapping.id))
        assert view.queue_position is None
        assert [kind for _, kind in waiting(session)] == ["shard"]


def test_a_cancel_during_the_first_claim_wins_over_the_split(
    database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    claim = claimed(database, "map")
    with database.writing() as session:
        cancel_mapping(session, owner="local", mapping_id=mapping.id)
    with database.writing() as session:
        assert not split_mapping(session, claim, RANGES)
    assert states(database) == []
    with database.writing() as session:
        assert heartbeat(session, claim, lease_seconds=30) == "cancel"


def test_cancelling_ends_shards_that_wait_and_tells_those_that_run(
    database: Database, storage: LocalStorage, mapping: QueryMapping
) -> None:
    read(database, storage, claimed(database, "shard"))
    running = claimed(database, "shard")
    with database.writing() as session:
        cancel_mapping(session, owner="local", mapping_id=mapping.id)
    assert job_of(database, mapping).state == "cancelled"
    assert states(database) == ["cancelled", "running", "succeeded"]
    with database.writing() as session:
        assert heartbeat(session, running, lease_seconds=30) == "cancel"


def test_a_shard_that_fails_fails_its_mapping_for_its_reason(
    database: Database, storage: LocalStorage, mapping: QueryMapping
) -> None:
    first, second = claimed(database, "shard"), claimed(database, "shard")
    with database.writing() as session:
        fail_job(session, second, NotFinite("Infinite.", fix="Scale."))
        assert fail_torn_mappings(session) == 1
    job = job_of(database, mapping)
    assert job.state == "failed"
    assert job.problem is not None
    assert job.problem["detail"] == "Infinite."
    assert states(database) == ["cancelled", "failed", "running"]
    with database.writing() as session:
        assert heartbeat(session, first, lease_seconds=30) == "cancel"
        assert fail_torn_mappings(session) == 0


def test_a_shard_whose_workers_die_fails_its_mapping_after_the_last_attempt(
    database: Database, mapping: QueryMapping
) -> None:
    for _ in range(3):
        claim = claimed(database, "shard", lease=-1)
        with database.writing() as session:
            assert reap(session) == 1
    assert claim.attempt == 3
    with database.writing() as session:
        fail_torn_mappings(session)
    job = job_of(database, mapping)
    assert job.problem is not None
    assert (job.state, job.problem["type"]) == ("failed", "worker-lost")


def test_a_shard_given_back_is_read_by_another(
    database: Database, storage: LocalStorage, mapping: QueryMapping
) -> None:
    late = claimed(database, "shard")
    with database.writing() as session:
        assert release_job(session, late, blameless=True)
    assert read(database, storage, claimed(database, "shard", worker="other"))
    with database.writing() as session:
        assert not record_shard(session, late, prefix="mappings/x/shards/late")
    assert job_of(database, mapping).waits_for == 2


def test_shards_that_end_at_once_are_all_counted(
    database: Database, storage: LocalStorage, mapping: QueryMapping
) -> None:
    claims = [claimed(database, "shard") for _ in RANGES]
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(lambda claim: read(database, storage, claim), claims))
    assert job_of(database, mapping).waits_for == 0


def test_cancelling_while_shards_end_leaves_nothing_running(
    database: Database, storage: LocalStorage, mapping: QueryMapping
) -> None:
    claims = [claimed(database, "shard") for _ in RANGES]

    def cancel() -> bool:
        with database.writing() as session:
            cancel_mapping(session, owner="local", mapping_id=mapping.id)
        return True

    with ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(read, database, storage, claim) for claim in claims]
        assert pool.submit(cancel).result(timeout=30)
        recorded = [each.result(timeout=30) for each in reads]
    assert job_of(database, mapping).state == "cancelled"
    assert states(database).count("succeeded") == sum(recorded)
    assert set(states(database)) <= {"succeeded", "cancelled"}


def test_a_shard_that_comes_after_the_end_is_not_recorded(
    database: Database, storage: LocalStorage, mapping: QueryMapping
) -> None:
    late = claimed(database, "shard")
    with database.writing() as session:
        cancel_mapping(session, owner="local", mapping_id=mapping.id)
    assert not read(database, storage, late)
    assert states(database) == ["cancelled"] * 3
    with database.reading() as session:
        assert spent_shards(session) == []


def test_a_shard_counts_whoever_has_taken_the_mapping_meanwhile(
    database: Database, storage: LocalStorage, mapping: QueryMapping
) -> None:
    """As a worker of a version does that knows of no shards."""
    claims = [claimed(database, "shard") for _ in RANGES]
    with database.writing() as session:
        session.execute(update(Job).where(Job.id == mapping.job_id).values(state="running"))
        session.commit()
    assert all(read(database, storage, claim) for claim in claims)
    assert job_of(database, mapping).waits_for == 0


@pytest.mark.parametrize("cascade", [False, True])
def test_deleting_forgets_shards_in_whatever_state(
    database: Database, storage: LocalStorage, mapping: QueryMapping, cascade: bool
) -> None:
    read(database, storage, claimed(database, "shard"))
    running = claimed(database, "shard")
    with database.writing() as session:
        if cascade:
            delete_query(session, owner="local", query_id=mapping.query_id, cascade=True)
        else:
            delete_mapping(session, owner="local", mapping_id=mapping.id)
    with database.reading() as session:
        assert session.scalars(select(Shard)).all() == []
        assert session.scalars(select(Job).where(Job.kind == "shard")).all() == []
    with database.writing() as session:
        assert heartbeat(session, running, lease_seconds=30) == "lost"
        assert not record_shard(session, running, prefix="mappings/x/shards/late")


def test_files_of_shards_are_spent_when_the_mapping_has_ended(
    database: Database, storage: LocalStorage, mapping: QueryMapping
) -> None:
    for _ in RANGES:
        read(database, storage, claimed(database, "shard"))
    with database.reading() as session:
        assert spent_shards(session) == []
        assert check_everything(session, storage, tell=lambda _: None) == []
    claim = claimed(database, "map")
    record(database, storage, mapping, claim)
    with database.reading() as session:
        assert spent_shards(session) == [mapping.id]
        assert check_everything(session, storage, tell=lambda _: None) == []
    storage.delete(shards_prefix(mapping.id))
    with database.writing() as session:
        forget_files(session, mapping.id)
    with database.reading() as session:
        assert spent_shards(session) == []
        assert check_everything(session, storage, tell=lambda _: None) == []


def test_every_shard_has_one_end(
    database: Database, storage: LocalStorage, mapping: QueryMapping
) -> None:
    for _ in RANGES:
        read(database, storage, claimed(database, "shard"))
    with database.reading() as session:
        kinds = list(session.scalars(select(Event.kind).where(Event.kind.like("shard.%"))))
    assert sorted(kinds) == sorted(["shard.queued", "shard.running", "shard.succeeded"] * 3)
