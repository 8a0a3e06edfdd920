"""A file that nobody is to keep goes when its check is done, and not before."""

from __future__ import annotations

import pytest

from app.database import Database
from app.fsck import check_everything
from app.jobs import fail_job
from app.problems import NotCounts
from app.queries import accept_query
from app.spent_uploads import forget_upload, spent_uploads
from app.storage import LocalStorage
from app.tables import Query

from .factories import claimed, inspection, published, uploaded

CANONICAL = ("canonical.json", "genes.json", "indptr.npy", "indices.npy", "data.npy", "obs.arrow")


def checked(database: Database, storage: LocalStorage, *, refused: bool, **options: str) -> Query:
    query = uploaded(database, storage, options={"layer": None, "input": "counts", **options})
    claim = claimed(database, "check")
    with database.reading() as session:
        assert spent_uploads(session) == {}
    prefix = f"queries/{query.id}/canonical-1"
    with database.writing() as session:
        if refused:
            assert fail_job(session, claim, NotCounts("No counts.", fix="Send counts."))
        else:
            published(storage, prefix, dict.fromkeys(CANONICAL, b""))
            assert accept_query(session, claim, canonical_prefix=prefix, inspection=inspection())
    return query


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("policy", ["needed", "listed"])
def test_a_file_that_is_not_to_be_kept_goes(
    database: Database, storage: LocalStorage, policy: str, refused: bool
) -> None:
    query = checked(database, storage, refused=refused, obs_policy=policy)
    assert query.storage_key is not None
    with database.reading() as session:
        assert spent_uploads(session) == {query.id: [query.storage_key]}
        # A worker that dies here has removed nothing, or not said so: neither loses anything.
        (orphan,) = check_everything(session, storage, tell=print)
        assert (orphan.kind, orphan.key) == ("orphan", query.storage_key)
    storage.delete(query.storage_key)
    with database.reading() as session:
        assert check_everything(session, storage, tell=print) == []
    with database.writing() as session:
        forget_upload(session, query.id)
    with database.reading() as session:
        assert spent_uploads(session) == {}
        assert session.get_one(Query, query.id).storage_key is None
        assert check_everything(session, storage, tell=print) == []


@pytest.mark.parametrize("refused", [False, True])
def test_other_files_stay(database: Database, storage: LocalStorage, refused: bool) -> None:
    query = checked(database, storage, refused=refused)
    assert query.storage_key is not None
    with database.reading() as session:
        assert spent_uploads(session) == {}
        assert check_everything(session, storage, tell=print) == []
    assert storage.exists(query.storage_key)
