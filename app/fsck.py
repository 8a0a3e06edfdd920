"""Comparing the rows with the files: what is missing, damaged or nobody's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.moves import TERMINAL_STATES
from app.parts import parts_of
from app.reference_tables import GoldenQuery
from app.references import version_folder
from app.storage import Storage
from app.tables import Job, Query, QueryMapping, ReferenceVersion, Shard

Tell = Callable[[str], None]

CANONICAL_FILES = (
    "canonical.json",
    "genes.json",
    "indptr.npy",
    "indices.npy",
    "data.npy",
    "obs.arrow",
)


IN_FLIGHT_SECONDS = 86_400
"""A file may be stored for so long before its row is committed. A store counts the age of a large
upload from its beginning, and 20 GiB at the slowest rate that it bears take 20 hours."""


@dataclass(frozen=True)
class Finding:
    kind: Literal["missing", "damaged", "orphan"]
    key: str
    detail: str


@dataclass(frozen=True)
class Expected:
    """A file that a row speaks of; without a digest, only its presence is checked."""

    key: str
    sha256: str | None
    of: str


def check_everything(session: Session, storage: Storage, *, tell: Tell) -> list[Finding]:
    """Read every file once. `tell` gets the key that is being read."""
    # The keys before the first SELECT: what is stored and recorded from here on is in the rows
    # but not in this list, so it cannot look like nobody's.
    present = list(storage.keys(""))
    expected = list(expected_files(session))
    orphans = find_orphans(session, present, {file.key for file in expected})
    session.rollback()  # a transaction that said nothing while hours of files are read is ended
    findings = []
    for file in expected:
        tell(file.key)
        finding = _check(storage, file)
        if finding is not None:
            findings.append(finding)
    return findings + orphans


def expected_files(session: Session) -> Iterator[Expected]:
    for query in session.scalars(select(Query)):
        yield from _of_query(query)
    for mapping in session.scalars(select(QueryMapping)):
        for result in mapping.results or ():
            key = f"{mapping.results_prefix}/{result['name']}"
            yield Expected(key, result["sha256"], f"mapping {mapping.id}")
    for version in session.scalars(select(ReferenceVersion)):
        yield from _of_version(version)
    for golden in session.scalars(select(GoldenQuery)):
        yield Expected(golden.storage_key, golden.sha256, f"golden query {golden.id}")
        for latent in golden.latents.values():
            yield Expected(latent["key"], latent["sha256"], f"golden query {golden.id}")


def _of_query(query: Query) -> Iterator[Expected]:
    # One that is to go may be gone already, though its row does not say so yet.
    if query.storage_key is not None and (query.keeps_upload or query.state == "checking"):
        for part in parts_of(query):
            yield Expected(part.key, part.sha256, f"query {query.id}")
    if query.canonical_prefix is not None:
        for name in CANONICAL_FILES:
            yield Expected(f"{query.canonical_prefix}/{name}", None, f"query {query.id}")


def _of_version(version: ReferenceVersion) -> Iterator[Expected]:
    prefix = version.bundle_prefix
    if prefix is None or version.manifest is None:
        return
    of = f"reference {version.name} version {version.version}"
    yield Expected(f"{prefix}/manifest.json", None, of)
    for name, digest in version.manifest.get("files", {}).items():
        yield Expected(f"{prefix}/{name}", digest, of)


def find_orphans(session: Session, present: list[str], expected: set[str]) -> list[Finding]:
    """Files below no row that is alive: left by a crash, or by a worker that lost its job."""
    owned = _owned_prefixes(session)
    return [
        Finding("orphan", key, "no row speaks of this file")
        for key in present
        if key not in expected and not any(key.startswith(prefix) for prefix in owned)
    ]


def repair(storage: Storage, findings: list[Finding]) -> int:
    """Remove orphans; how many. What is missing or damaged is only told: it cannot be made up."""
    orphans = [finding.key for finding in findings if finding.kind == "orphan"]
    for key in orphans:
        storage.delete(key)
    return len(orphans)


def in_flight(storage: Storage, findings: list[Finding], *, began: float) -> list[Finding]:
    """Orphans that may be the work of a living process elsewhere, whose row is yet to come.

    Args:
        began: the store's clock before the check. A row that was committed while the check read
            for hours is not in its list: only what was old at its beginning is surely nobody's.
    """
    orphans = [finding for finding in findings if finding.kind == "orphan"]
    return [each for each in orphans if not _was_old(storage, each.key, began)]


def _was_old(storage: Storage, key: str, began: float) -> bool:
    try:
        return storage.changed_at(key) < began - IN_FLIGHT_SECONDS
    except FileNotFoundError:
        return False  # somebody has removed it: a sign of life


def _owned_prefixes(session: Session) -> list[str]:
    """Folders whose files may be more than rows list: canonical queries, and work in progress."""
    prefixes = [
        f"{prefix}/" for prefix in session.scalars(select(Query.canonical_prefix)) if prefix
    ]
    checking = session.scalars(select(Query.id).where(Query.state == "checking"))
    prefixes += [f"queries/{query_id}/" for query_id in checking]
    unfinished = (
        select(QueryMapping.id)
        .join(Job, Job.id == QueryMapping.job_id)
        .where(Job.state.not_in(TERMINAL_STATES))
    )
    prefixes += [f"mappings/{mapping_id}/" for mapping_id in session.scalars(unfinished)]
    prefixes += [f"{prefix}/" for prefix in session.scalars(select(Shard.prefix)) if prefix]
    for version in session.scalars(select(ReferenceVersion)):
        if version.bundle_prefix is not None:
            prefixes.append(f"{version.bundle_prefix}/")
        elif version.state == "building":
            prefixes.append(f"{version_folder(version.name, version.version)}/")
    return prefixes


def _check(storage: Storage, file: Expected) -> Finding | None:
    if not storage.exists(file.key):
        return Finding("missing", file.key, f"{file.of} speaks of it")
    if file.sha256 is None:
        return None
    digest = hashlib.sha256()
    for block in storage.read(file.key, 0, storage.size(file.key)):
        digest.update(block)
    if digest.hexdigest() != file.sha256:
        return Finding("damaged", file.key, f"its SHA-256 is not what {file.of} says")
    return None
