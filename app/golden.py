"""Golden queries: files kept beside a reference version, with what mapping them must give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import Database
from app.keys import LOCAL_ADMINISTRATOR
from app.problems import MalformedRequest, UnknownGoldenQuery
from app.queries import removed_on_failure
from app.reference_tables import GoldenQuery
from app.references import find_built_version, hold_built_version, version_folder
from app.rfc9457 import every_problem
from app.staging import StagedFile
from app.storage import Storage
from app.tables import ReferenceVersion, new_id

Expected = Literal["pass", "fail"]


def add_golden(
    database: Database,
    storage: Storage,
    *,
    name: str,
    version: int,
    staged: StagedFile,
    filename: str,
    expect: Expected,
    options: Mapping[str, Any],
    min_agreement: float | None = None,
    problem_type: str | None = None,
) -> GoldenQuery:
    """Keep a file for `references verify`. It is no part of the bundle, which never changes.

    Args:
        database: not held while the file is stored, which may take minutes.
        storage: where the file goes, below the version.
        name: of the reference.
        version: which one.
        staged: the file, hashed.
        filename: how lists call it.
        expect: `pass`: it must map; `fail`: it must be refused.
        options: `batch_key`, `labels_key`, `layer`.
        min_agreement: of labels, 0 to 1; for `pass` with a labels_key.
        problem_type: for `fail`; None: as the first run finds.
    """
    _check(expect, options, min_agreement, problem_type)
    with database.reading() as session:
        find_built_version(session, name, version, caller=LOCAL_ADMINISTRATOR)
    golden_id = new_id()
    prefix = golden_prefix(name, version, golden_id)
    key = f"{prefix}/query.h5ad"
    storage.publish_file(staged.path, key, sha256=staged.sha256)
    with database.writing() as session:
        with removed_on_failure(storage, prefix):
            found = hold_built_version(session, name, version, caller=LOCAL_ADMINISTRATOR)
            golden = GoldenQuery(
                id=golden_id,
                version_id=found.id,
                filename=filename,
                storage_key=key,
                sha256=staged.sha256,
                expect=expect,
                options=dict(options),
                min_agreement=min_agreement,
                problem_type=problem_type,
                latents={},
            )
            session.add(golden)
            session.flush()
        session.commit()
    return golden


def golden_prefix(name: str, version: int, golden_id: str) -> str:
    return f"{version_folder(name, version)}/golden/{golden_id}"


def goldens_of(session: Session, version: ReferenceVersion) -> list[GoldenQuery]:
    mine = select(GoldenQuery).where(GoldenQuery.version_id == version.id)
    return list(session.scalars(mine.order_by(GoldenQuery.created_at, GoldenQuery.id)))


def remove_golden(session: Session, *, golden_id: str) -> str:
    """Returns the prefix of the bytes to remove."""
    golden = _find(session, golden_id)
    version = session.get_one(ReferenceVersion, golden.version_id)
    session.delete(golden)
    session.commit()
    return golden_prefix(version.name, version.version, golden_id)


def record_latents(session: Session, *, golden_id: str, device: str, key: str, sha256: str) -> None:
    """What the first run on a class of device gave: later runs there must give the same."""
    golden = _find(session, golden_id)
    golden.latents = {**golden.latents, device: {"key": key, "sha256": sha256}}
    session.commit()


def record_problem_type(session: Session, *, golden_id: str, problem_type: str) -> None:
    """With which problem the first run was refused: later runs must be refused with the same."""
    _find(session, golden_id).problem_type = problem_type
    session.commit()


def _find(session: Session, golden_id: str) -> GoldenQuery:
    golden = session.get(GoldenQuery, golden_id, with_for_update=True)
    if golden is None:
        raise UnknownGoldenQuery(
            f"There is no golden query {golden_id!r}.",
            fix="`cellgraft references golden list NAME VERSION` shows the ids.",
        )
    return golden


def _check(
    expect: Expected,
    options: Mapping[str, Any],
    min_agreement: float | None,
    problem_type: str | None,
) -> None:
    known = {kind.type for kind in every_problem() if kind.fault == "data"}
    if problem_type is not None and (expect == "pass" or problem_type not in known):
        raise _contradiction(
            "problem", f"{problem_type!r} is no type of problem that a file may be refused with"
        )
    labelled = expect == "pass" and options.get("labels_key") is not None
    if labelled != (min_agreement is not None) or not 0 <= (min_agreement or 0) <= 1:
        raise _contradiction(
            "min_agreement", "labels and the agreement that is wanted, 0 to 1, belong together"
        )


def _contradiction(field: str, detail: str) -> MalformedRequest:
    return MalformedRequest(
        f"The expectation cannot be checked: {detail}.",
        fix="See `cellgraft references golden add --help`.",
        errors=[{"pointer": f"/{field}", "detail": detail}],
    )
