"""Registering a reference version that an administrator's command imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from app.columns import utc_now
from app.moves import record_event
from app.queries import removed_on_failure
from app.references import described, flush_version, version_folder
from app.storage import Storage
from app.tables import Job, ReferenceVersion, new_id


def import_prefix(name: str, version: int) -> str:
    """Where an import puts its bundle: a place of its own, whoever else takes the same number."""
    return f"{version_folder(name, version)}/import-{new_id()}"


def register_import(
    session: Session,
    storage: Storage,
    *,
    owner: str,
    prefix: str,
    manifest: dict[str, Any],
    options: Mapping[str, Any],
) -> ReferenceVersion:
    """Record a version whose bundle is in the store, ready from the start.

    Raises:
        ReferenceExists: somebody took the number meanwhile; the bundle is removed.
    """
    with removed_on_failure(storage, prefix):
        version = store_import(
            session, owner=owner, prefix=prefix, manifest=manifest, options=options
        )
        flush_version(session, version.name)
    # A commit that fails may have come through all the same: its files stay.
    session.commit()
    return version


def store_import(
    session: Session,
    *,
    owner: str,
    prefix: str,
    manifest: dict[str, Any],
    options: Mapping[str, Any],
    **told: Any,
) -> ReferenceVersion:
    """`register_import` without the commit; `told` joins the event.

    Its job has succeeded: an import leaves nothing behind that a crash could leave half done.
    """
    version_id, now = new_id(), utc_now()
    job = Job(
        kind="import",
        subject_id=version_id,
        owner=owner,
        state="succeeded",
        attempt=1,
        max_attempts=1,
        progress=1.0,
        started_at=now,
        finished_at=now,
    )
    session.add(job)
    session.flush()
    record_event(session, job, "import.succeeded", **told)
    version = ReferenceVersion(
        id=version_id,
        owner=owner,
        name=str(manifest["name"]),
        version=int(manifest["version"]),
        state="ready",
        options=dict(options),
        job_id=job.id,
        bundle_prefix=prefix,
        **described(manifest),
    )
    session.add(version)
    return version
