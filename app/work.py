"""What a claimed job asks for, as plain values: all that the compute side needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, undefer

from app.jobs import Claim
from app.keys import any_key_of
from app.parts import StoredPart, parts_of
from app.problems import UnknownMapping, UnknownQuery, UnknownRanking, UnknownReference
from app.standing import USABLE_STATES, warnings_about
from app.tables import Query, QueryMapping, Ranking, ReferenceVersion, Shard

_GONE = "It was deleted after the job was accepted; there is nothing left to do."


@dataclass(frozen=True)
class CheckWork:
    query_id: str
    parts: tuple[StoredPart, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class MapWork:
    mapping_id: str
    query_id: str
    canonical_prefix: str
    reference_name: str
    version: int
    reference_prefix: str
    manifest_sha256: str
    """Of the manifest as `app.references.manifest_digest` writes it: names this exact version."""
    options: dict[str, Any]
    query_facts: dict[str, Any]
    reference_facts: dict[str, Any]
    """How it was asked for, and what has become of it; see `app.standing`."""
    n_cells: int
    shards: tuple[str, ...]
    """Prefixes of what shards of the query hold, in order; none if it was not split."""


@dataclass(frozen=True)
class ShardWork:
    """Cells `start` to `stop` of what `mapping` is about."""

    mapping: MapWork
    start: int
    stop: int


@dataclass(frozen=True)
class BuildWork:
    reference_version_id: str
    name: str
    version: int
    canonical_prefix: str
    source: dict[str, Any]
    options: dict[str, Any]


@dataclass(frozen=True)
class RankedVersion:
    """A reference version that is to be compared."""

    version_id: str
    reference_prefix: str
    manifest_sha256: str
    manifest: dict[str, Any]


@dataclass(frozen=True)
class RankWork:
    query_id: str
    canonical_prefix: str
    versions: tuple[RankedVersion, ...]


Work = CheckWork | MapWork | ShardWork | RankWork | BuildWork


def describe_work(session: Session, claim: Claim) -> Work:
    """Read what the job is about. A subject deleted meanwhile raises its `Unknown...` problem."""
    if claim.kind == "check":
        return _check_work(session, claim.subject_id)
    if claim.kind == "map":
        return describe_mapping(session, claim.subject_id)
    if claim.kind == "shard":
        return _shard_work(session, claim.subject_id)
    if claim.kind == "rank":
        return _rank_work(session, claim.subject_id)
    return _build_work(session, claim.subject_id)


def _check_work(session: Session, query_id: str) -> CheckWork:
    query = session.get(Query, query_id)
    if query is None:
        raise UnknownQuery("The query of this job does not exist any more.", fix=_GONE)
    return CheckWork(
        query_id=query.id,
        parts=tuple(parts_of(query)),
        options=query.options,
    )


def describe_mapping(session: Session, mapping_id: str) -> MapWork:
    """Read what a mapping is about, whatever its state."""
    mapping = session.get(QueryMapping, mapping_id)
    if mapping is None:
        raise UnknownMapping("The mapping of this job does not exist any more.", fix=_GONE)
    query = session.get_one(Query, mapping.query_id)
    version = session.get_one(ReferenceVersion, mapping.reference_version_id)
    return MapWork(
        mapping_id=mapping.id,
        query_id=query.id,
        canonical_prefix=query.canonical_prefix or "",
        reference_name=version.name,
        version=version.version,
        reference_prefix=version.bundle_prefix or "",
        manifest_sha256=version.manifest_sha256 or "",
        options=mapping.options,
        query_facts={"filename": query.filename, "sha256": query.sha256},
        reference_facts={
            "alias": mapping.reference_alias,
            "warnings": warnings_about(session, version, any_key_of(mapping.owner)),
        },
        n_cells=int((query.inspection or {}).get("n_cells", 0)),
        shards=tuple(prefix or "" for prefix in session.scalars(_prefixes_of(mapping_id))),
    )


def _prefixes_of(mapping_id: str) -> Select[str | None]:
    return select(Shard.prefix).where(Shard.mapping_id == mapping_id).order_by(Shard.start)


def _shard_work(session: Session, shard_id: str) -> ShardWork:
    shard = session.get(Shard, shard_id)
    if shard is None:
        raise UnknownMapping("The mapping of this shard does not exist any more.", fix=_GONE)
    return ShardWork(describe_mapping(session, shard.mapping_id), shard.start, shard.stop)


def _rank_work(session: Session, ranking_id: str) -> RankWork:
    ranking = session.get(Ranking, ranking_id)
    if ranking is None:
        raise UnknownRanking("The ranking of this job does not exist any more.", fix=_GONE)
    query = session.get_one(Query, ranking.query_id)
    found = select(ReferenceVersion).where(
        ReferenceVersion.id.in_(ranking.version_ids),
        ReferenceVersion.state.in_(USABLE_STATES),  # withdrawn since: it is not for mapping onto
    )
    versions = session.scalars(found.options(undefer(ReferenceVersion.manifest))).all()
    return RankWork(
        query_id=query.id,
        canonical_prefix=query.canonical_prefix or "",
        versions=tuple(
            RankedVersion(
                version_id=version.id,
                reference_prefix=version.bundle_prefix or "",
                manifest_sha256=version.manifest_sha256 or "",
                manifest=version.manifest or {},
            )
            for version in versions
        ),
    )


def _build_work(session: Session, version_id: str) -> BuildWork:
    version = session.get(ReferenceVersion, version_id)
    query = version and version.query_id and session.get(Query, version.query_id)
    if not version or not query:
        raise UnknownReference("The cells of this build do not exist any more.", fix=_GONE)
    return BuildWork(
        reference_version_id=version.id,
        name=version.name,
        version=version.version,
        canonical_prefix=query.canonical_prefix or "",
        source={"filename": query.filename, "sha256": query.sha256},
        options=version.options,
    )
