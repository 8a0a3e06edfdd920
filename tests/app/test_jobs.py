"""Claims, leases, fences and what follows from a job's end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from app.database import Database
from app.jobs import (
    Claim,
    cancel_job,
    claim_next,
    fail_job,
    heartbeat,
    reap,
    release_job,
)
from app.mappings import cancel_mapping, delete_mapping, record_results
from app.problems import NotCounts, UnknownMapping
from app.queries import accept_query, delete_query
from app.references import submit_build
from app.storage import LocalStorage
from app.tables import Event, Job, Query, QueryMapping, ReferenceVersion
from app.work import BuildWork, CheckWork, MapWork, describe_work
from app.workers import workers_seen

from .factories import BELL, asked, built, checked, claimed, mapped, uploaded


def job_of(database: Database, claim: Claim) -> Job:
    with database.reading() as session:
        return session.get_one(Job, claim.job_id)


def try_claim(database: Database, *kinds: str, worker: str = "w2") -> Claim | None:
    with database.writing() as session:
        return claim_next(session, worker=worker, kinds=kinds, lease_seconds=30)


def test_only_one_of_many_workers_gets_a_job(database: Database, storage: LocalStorage) -> None:
    queries = [uploaded(database, storage) for _ in range(5)]

    def claim_all(worker: str) -> list[Claim]:
        taken = []
        while claim := try_claim(database, "check", worker=worker):
            taken.append(claim)
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [claim for claims in pool.map(claim_all, "abcdefgh") for claim in claims]
    assert sorted(claim.subject_id for claim in taken) == sorted(query.id for query in queries)
    assert {claim.attempt for claim in taken} == {1}


def test_the_oldest_job_comes_first_and_only_restricts(
    database: Database, storage: LocalStorage
) -> None:
    first, second = uploaded(database, storage), uploaded(database, storage)
    with database.writing() as session:
        claim = claim_next(
            session, worker="w", kinds=["check"], lease_seconds=30, only=[second.job_id]
        )
    assert claim is not None
    assert claim.subject_id == second.id
    assert claimed(database, "check").subject_id == first.id


def test_a_mapping_waits_for_its_query(database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    query = uploaded(database, storage)
    mapping = asked(database, query)
    assert try_claim(database, "map") is None
    check = claimed(database, "check")
    with database.writing() as session:
        accept_query(session, check, canonical_prefix="queries/x", inspection={})
    claim = claimed(database, "map")
    assert claim.subject_id == mapping.id


def test_a_rejected_query_fails_what_waits_for_it(
    database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = uploaded(database, storage)
    mapping = asked(database, query)
    with database.writing() as session:
        version = submit_build(
            session,
            BELL,
            owner="local",
            name="other",
            query_id=query.id,
            options={},
            max_attempts=3,
        )
    problem = NotCounts("Fractions.", fix="Send counts.", errors=[{"pointer": "/X", "detail": "1"}])
    with database.writing() as session:
        assert fail_job(session, claimed(database, "check"), problem)
    with database.reading() as session:
        assert session.get_one(Query, query.id).state == "rejected"
        assert session.get_one(Query, query.id).problem == problem.as_dict()
        job = session.get_one(Job, mapping.job_id)
        assert (job.state, job.problem) == ("failed", problem.as_dict())
        assert session.get_one(ReferenceVersion, version.id).state == "failed"
    assert try_claim(database, "map", "build") is None


def test_a_lost_lease_is_reaped_and_the_old_worker_fenced_off(
    database: Database, storage: LocalStorage
) -> None:
    query = uploaded(database, storage)
    old = claimed(database, "check", lease=-1)
    with database.writing() as session:
        assert reap(session) == 1
    new = claimed(database, "check", worker="w2")
    assert new.attempt == 2
    with database.writing() as session:
        assert heartbeat(session, old, lease_seconds=30) == "lost"
        assert not accept_query(session, old, canonical_prefix="x", inspection={})
        assert not fail_job(session, old, NotCounts("no", fix="no"))
        assert not release_job(session, old)
        assert not cancel_job(session, old)
    with database.writing() as session:
        assert heartbeat(session, new, lease_seconds=30) == "held"
        assert accept_query(session, new, canonical_prefix="x", inspection={})
    with database.reading() as session:
        assert session.get_one(Query, query.id).state == "ready"


def test_a_living_lease_is_not_reaped(database: Database, storage: LocalStorage) -> None:
    uploaded(database, storage)
    claimed(database, "check", lease=30)
    with database.writing() as session:
        assert reap(session) == 0


def test_after_the_last_attempt_the_worker_is_lost(
    database: Database, storage: LocalStorage
) -> None:
    query = uploaded(database, storage, max_attempts=2)
    for expected in ("queued", "failed"):
        claim = claimed(database, "check", lease=-1)
        with database.writing() as session:
            assert reap(session) == 1
        assert job_of(database, claim).state == expected
    problem = job_of(database, claim).problem
    assert problem is not None
    assert (problem["type"], problem["fault"]) == ("worker-lost", "service")
    with database.reading() as session:
        assert session.get_one(Query, query.id).state == "rejected"


def test_a_released_job_is_queued_and_a_blameless_one_keeps_its_attempts(
    database: Database, storage: LocalStorage
) -> None:
    uploaded(database, storage, max_attempts=1)
    for _ in range(3):
        claim = claimed(database, "check")
        with database.writing() as session:
            assert release_job(session, claim, blameless=True)
    claim = claimed(database, "check")
    assert claim.attempt == 4
    with database.writing() as session:
        assert release_job(session, claim)
    assert job_of(database, claim).state == "failed"


def test_results_are_recorded_once(database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    claim = claimed(database, "map")
    with database.writing() as session:
        first = record_results(session, claim, results_prefix="a", results=[], summary={})
    with database.writing() as session:
        second = record_results(session, claim, results_prefix="b", results=[], summary={})
    assert (first, second) == (True, False)
    with database.reading() as session:
        assert session.get_one(QueryMapping, mapping.id).results_prefix == "a"
        finished = select(Event).where(Event.job_id == claim.job_id, Event.kind == "map.succeeded")
        assert len(session.scalars(finished).all()) == 1


def test_cancelling_a_running_job(database: Database, storage: LocalStorage) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    claim = claimed(database, "map")
    with database.writing() as session:
        cancel_mapping(session, owner="local", mapping_id=mapping.id)
    with database.writing() as session:
        assert heartbeat(session, claim, lease_seconds=30) == "cancel"
        assert cancel_job(session, claim)
    assert job_of(database, claim).state == "cancelled"


@pytest.mark.parametrize("give_back", [release_job, None])
def test_a_job_to_be_cancelled_is_not_queued_again(
    database: Database, storage: LocalStorage, give_back: object
) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    claim = claimed(database, "map", lease=-1)
    with database.writing() as session:
        cancel_mapping(session, owner="local", mapping_id=mapping.id)
    with database.writing() as session:
        release_job(session, claim) if give_back else reap(session)
    assert job_of(database, claim).state == "cancelled"


def test_a_cancelled_build_fails_its_version(database: Database, storage: LocalStorage) -> None:
    query = checked(database, storage)
    with database.writing() as session:
        version = submit_build(
            session, BELL, owner="local", name="r", query_id=query.id, options={}, max_attempts=3
        )
    with database.writing() as session:
        assert cancel_job(session, claimed(database, "build"))
    with database.reading() as session:
        assert session.get_one(ReferenceVersion, version.id).state == "failed"


def test_deleting_takes_a_running_job_from_its_worker(
    database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    mapping = asked(database, checked(database, storage))
    claim = claimed(database, "map")
    with database.writing() as session:
        delete_mapping(session, owner="local", mapping_id=mapping.id)
    with database.writing() as session:
        assert heartbeat(session, claim, lease_seconds=30) == "lost"
        assert not record_results(session, claim, results_prefix="a", results=[], summary={})
    with database.reading() as session, pytest.raises(UnknownMapping):
        describe_work(session, claim)


def test_progress_raises_the_revision_and_silence_does_not(
    database: Database, storage: LocalStorage
) -> None:
    uploaded(database, storage)
    claim = claimed(database, "check")
    before = job_of(database, claim).revision
    with database.writing() as session:
        heartbeat(session, claim, lease_seconds=30)
    assert job_of(database, claim).revision == before
    with database.writing() as session:
        heartbeat(session, claim, lease_seconds=30, stage="reading", progress=1.5)
    job = job_of(database, claim)
    assert (job.revision, job.stage, job.progress) == (before + 1, "reading", 1.0)


def test_events_tell_a_jobs_life_in_order(database: Database, storage: LocalStorage) -> None:
    uploaded(database, storage)
    claim = claimed(database, "check")
    with database.writing() as session:
        release_job(session, claim)
    claim = claimed(database, "check")
    with database.writing() as session:
        accept_query(session, claim, canonical_prefix="x", inspection={})
    with database.reading() as session:
        kinds = session.scalars(
            select(Event.kind).where(Event.job_id == claim.job_id).order_by(Event.id)
        ).all()
    assert list(kinds) == [
        "check.queued",
        "check.running",
        "check.queued",
        "check.running",
        "check.succeeded",
    ]


def test_work_is_described_in_plain_values(database: Database, storage: LocalStorage) -> None:
    version = built(database, storage)
    query = checked(database, storage)
    asked(database, query, batch_key=["sample"], recipe="forward")
    with database.writing() as session:
        submit_build(
            session,
            BELL,
            owner="local",
            name="r",
            query_id=query.id,
            options={"seed": 1},
            max_attempts=3,
        )
    uploaded(database, storage)
    with database.reading() as session:
        work = describe_work(session, claimed(database, "map"))
        assert isinstance(work, MapWork)
        assert work.canonical_prefix == query.canonical_prefix
        assert work.reference_prefix == "references/pbmc/1/1"
        assert work.manifest_sha256 == version.manifest_sha256
        assert work.options["batch_key"] == ["sample"]
        assert work.query_facts == {"filename": "sample.h5ad", "sha256": query.sha256}
        build = describe_work(session, claimed(database, "build"))
        assert isinstance(build, BuildWork)
        assert (build.name, build.version, build.options) == ("r", 1, {"seed": 1})
        check = describe_work(session, claimed(database, "check"))
        assert isinstance(check, CheckWork)
        assert check.options == {"layer": None, "input": "counts"}


def test_workers_are_seen_when_they_ask(database: Database, storage: LocalStorage) -> None:
    with database.reading() as session:
        assert workers_seen(session, within_seconds=30) == 0
    assert try_claim(database, "check", worker="w7") is None
    with database.reading() as session:
        assert workers_seen(session, within_seconds=30) == 1


def test_deleting_a_query_deletes_what_was_made_of_it(
    database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)
    mapping = mapped(database, storage, query)
    with database.writing() as session:
        prefixes = delete_query(session, owner="local", query_id=query.id, cascade=True)
    assert prefixes == [f"mappings/{mapping.id}", f"queries/{query.id}"]
    with database.reading() as session:
        assert session.get(Job, query.job_id) is None
        assert session.get(Job, mapping.job_id) is None
        newest = select(Event.kind, Event.subject_id).order_by(Event.id.desc()).limit(2)
        assert set(session.execute(newest).all()) == {
            ("map.deleted", mapping.id),
            ("check.deleted", query.id),
        }
