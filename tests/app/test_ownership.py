"""Writers that meet over one query. SQLite lets them in one by one, PostgreSQL at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy.orm import Session

from app.database import Database
from app.jobs import fail_job
from app.mappings import MappingRequest, store_mapping
from app.problems import NotCounts, QueryHasMappings, ReferenceInUse
from app.queries import delete_query
from app.references import remove_version
from app.storage import LocalStorage
from app.tables import Job, QueryMapping

from .factories import built, checked, claimed, uploaded


@contextmanager
def meanwhile(database: Database, other: Callable[[Session], object]) -> Iterator[Future[object]]:
    """Another writer, which begins while the `with` runs and need not be done at its end."""
    begun = threading.Event()

    def work() -> object:
        begun.set()
        with database.writing() as session:
            return other(session)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        begun.wait()
        time.sleep(0.3)
        yield future


def stored(session: Session, query_id: str) -> QueryMapping:
    request = MappingRequest(query=query_id, reference="pbmc")
    return store_mapping(session, owner="local", request=request, max_attempts=3)


def test_a_query_is_not_deleted_while_it_is_being_mapped(
    database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)

    def delete(session: Session) -> object:
        return delete_query(session, owner="local", query_id=query.id)

    with database.writing() as session:
        stored(session, query.id)
        with meanwhile(database, delete) as deletion:
            session.commit()
            with pytest.raises(QueryHasMappings):
                deletion.result()


def test_no_mapping_waits_for_a_query_rejected_meanwhile(
    database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = uploaded(database, storage)
    claim = claimed(database, "check")

    def reject(session: Session) -> object:
        return fail_job(session, claim, NotCounts("Fractions.", fix="Send counts."))

    with database.writing() as session:
        mapping = stored(session, query.id)
        with meanwhile(database, reject) as rejection:
            session.commit()
            assert rejection.result()
    with database.reading() as session:
        assert session.get_one(Job, mapping.job_id).state == "failed"


def test_a_version_is_not_removed_while_it_is_mapped_onto(
    database: Database, storage: LocalStorage
) -> None:
    built(database, storage)
    query = checked(database, storage)

    def remove(session: Session) -> object:
        return remove_version(session, name="pbmc", version=1)

    with database.writing() as session:
        stored(session, query.id)
        with meanwhile(database, remove) as removal:
            session.commit()
            with pytest.raises(ReferenceInUse):
                removal.result()
