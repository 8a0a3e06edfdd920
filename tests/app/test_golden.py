"""Golden queries as rows and files: kept beside a version, known to fsck, gone with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.database import Database
from app.fsck import check_everything
from app.golden import (
    add_golden,
    goldens_of,
    record_latents,
    record_problem_type,
    remove_golden,
)
from app.problems import MalformedRequest, ReferenceNotReady, UnknownGoldenQuery
from app.reference_tables import GoldenQuery
from app.storage import LocalStorage
from app.tables import ReferenceVersion

from .factories import built, published, staged_file
from .test_references import removed


def add(database: Database, storage: LocalStorage, folder: Path, **changes: Any) -> GoldenQuery:
    wanted: dict[str, Any] = {"expect": "pass", "options": {"batch_key": ["sample"]}, **changes}
    return add_golden(
        database,
        storage,
        name="pbmc",
        version=1,
        staged=staged_file(folder),
        filename="golden.h5ad",
        **wanted,
    )


def faults(database: Database, storage: LocalStorage) -> list[tuple[str, str]]:
    with database.reading() as session:
        found = check_everything(session, storage, tell=lambda key: None)
    return [(each.kind, each.key.rpartition("/")[2]) for each in found]


def test_a_golden_query_is_kept_and_fsck_knows_its_files(
    database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    version = built(database, storage)
    golden = add(database, storage, tmp_path / "new")
    folder = f"references/pbmc/1/golden/{golden.id}"
    assert list(storage.keys(folder)) == [f"{folder}/query.h5ad"]
    assert faults(database, storage) == []
    published(storage, f"{folder}-run", {"latent-cpu.npy": b"numbers"})
    assert faults(database, storage) == [("orphan", "latent-cpu.npy")]
    with database.writing() as session:
        key = f"{folder}-run/latent-cpu.npy"
        record_latents(session, golden_id=golden.id, device="cpu", key=key, sha256="0" * 64)
    assert faults(database, storage) == [("damaged", "latent-cpu.npy")]
    (storage.root / folder / "query.h5ad").unlink()
    assert ("missing", "query.h5ad") in faults(database, storage)
    with database.reading() as session:
        kept = goldens_of(session, session.get_one(ReferenceVersion, version.id))
        assert [each.latents["cpu"]["key"] for each in kept] == [key]
        stored = session.get_one(ReferenceVersion, version.id)
    assert stored.manifest_sha256 == version.manifest_sha256  # the version is what it was


def test_golden_queries_go_alone_or_with_their_version(
    database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    built(database, storage)
    first, _ = (add(database, storage, tmp_path / "new") for _ in range(2))
    with database.writing() as session:
        storage.delete(remove_golden(session, golden_id=first.id))
    assert faults(database, storage) == []
    with database.writing() as session, pytest.raises(UnknownGoldenQuery):
        remove_golden(session, golden_id=first.id)
    removed(database, storage, 1)
    assert list(storage.keys("references/pbmc/1")) == []
    assert faults(database, storage) == []
    with pytest.raises(ReferenceNotReady):
        add(database, storage, tmp_path / "new")


@pytest.mark.parametrize(
    "wanted",
    [
        {"problem_type": "not-counts"},  # it must map
        {"expect": "fail", "problem_type": "no-such-problem"},
        {"expect": "fail", "problem_type": "internal-fault"},  # no fault of a file's
        {"expect": "fail", "min_agreement": 0.5},
        {"min_agreement": 0.5},  # without labels
        {"options": {"labels_key": "cell_type"}},  # without a threshold
        {"options": {"labels_key": "cell_type"}, "min_agreement": 1.5},
    ],
)
def test_expectations_that_cannot_be_checked(
    database: Database, storage: LocalStorage, tmp_path: Path, wanted: dict[str, Any]
) -> None:
    built(database, storage)
    with pytest.raises(MalformedRequest):
        add(database, storage, tmp_path / "new", **wanted)
    assert faults(database, storage) == []


def test_the_problem_of_the_first_run_is_kept(
    database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    built(database, storage)
    golden = add(database, storage, tmp_path / "new", expect="fail")
    with database.writing() as session:
        record_problem_type(session, golden_id=golden.id, problem_type="not-counts")
    with database.reading() as session:
        assert session.get_one(GoldenQuery, golden.id).problem_type == "not-counts"
