"""Mappings of large queries are split where there is somebody to share with, and shards go away."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import func, select

from app.database import Database
from app.mappings import cancel_mapping
from app.shards import shards_prefix
from app.storage import LocalStorage
from app.tables import Job, QueryMapping, Shard
from app.workers import dismiss_worker, register_worker
from tests.app.factories import asked, built, checked, inspection
from worker.parent import Parent
from worker.workplace import Workplace

from .conftest import TIMING, Running, Work

Start = Callable[[], Running]
N_CELLS, SHARD_CELLS = 3000, 1024


@pytest.fixture
def start(database: Database, place: Workplace) -> Iterator[Start]:
    started: list[Running] = []

    def begin() -> Running:
        small = dataclasses.replace(place, shard_cells=SHARD_CELLS)
        started.append(Running(Parent(database, small, TIMING)))
        return started[-1]

    yield begin
    for each in started:
        each.stop()


def ask(database: Database, storage: LocalStorage, do: str, n_cells: int) -> QueryMapping:
    built(database, storage)
    query = checked(database, storage, found=inspection(n_cells=n_cells))
    return asked(database, query, batch_key=[do])


def see_another_worker(database: Database) -> None:
    with database.writing() as session:
        register_worker(session, "another", device="cpu", warm=())


def n_shards(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Shard)) or 0


def test_a_large_query_is_read_in_shards_and_mapped(
    start: Start, work: Work, database: Database, storage: LocalStorage
) -> None:
    mapping = ask(database, storage, "finish", N_CELLS)
    see_another_worker(database)
    start()
    work.finish(mapping.job_id, "succeeded")
    assert n_shards(database) == 3
    deadline = time.monotonic() + 10
    while list(storage.keys(shards_prefix(mapping.id))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list(storage.keys(f"mappings/{mapping.id}")) == [f"mappings/{mapping.id}/2/latent.npy"]


@pytest.mark.parametrize(("n_cells", "others"), [(N_CELLS, False), (SHARD_CELLS, True)])
def test_it_is_not_split_without_need_or_company(
    start: Start,
    work: Work,
    database: Database,
    storage: LocalStorage,
    n_cells: int,
    others: bool,
) -> None:
    mapping = ask(database, storage, "finish", n_cells)
    with database.writing() as session:
        dismiss_worker(session, "w1")  # in whose name the factories claim
    if others:
        see_another_worker(database)
    start()
    assert work.finish(mapping.job_id, "succeeded").attempt == 1
    assert n_shards(database) == 0


def test_a_shard_that_cannot_be_read_fails_the_mapping(
    start: Start, work: Work, database: Database, storage: LocalStorage
) -> None:
    mapping = ask(database, storage, "refuse", N_CELLS)
    see_another_worker(database)
    start()
    job = work.finish(mapping.job_id, "failed")
    assert job.problem is not None
    assert job.problem["type"] == "untrainable-reference"
    with database.reading() as session:
        states = session.scalars(select(Job.state).where(Job.kind == "shard")).all()
    assert sorted(states) == ["cancelled", "cancelled", "failed"]


def test_a_cancel_stops_the_shard_that_is_being_read(
    start: Start, work: Work, database: Database, storage: LocalStorage
) -> None:
    mapping = ask(database, storage, "steps", N_CELLS)
    see_another_worker(database)
    start()
    with database.reading() as session:
        reading = select(Job.id).where(Job.kind == "shard", Job.state == "running")
        deadline = time.monotonic() + 20
        while (shard := session.scalar(reading)) is None:
            session.rollback()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    with database.writing() as session:
        cancel_mapping(session, owner="local", mapping_id=mapping.id)
    work.finish(mapping.job_id, "cancelled")
    work.finish(shard, "cancelled")
