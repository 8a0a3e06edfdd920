"""Findings: what the database, the API and the store say when all is quiet."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import httpx
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.database import Database
from app.fsck import check_everything, repair
from app.shards import shards_prefix, spent_shards
from app.storage import Storage, read_whole
from app.tables import Event, Job, Query, QueryMapping, Ranking, Shard

from .checker import TERMINAL, Findings, FoundMapping, FoundQuery, FoundRanking, FoundShard
from .clients import digests

ENDS = {f"{kind}.{state}" for kind in ("check", "map", "shard", "rank") for state in TERMINAL}
Results = dict[str, tuple[dict[str, str], dict[str, str]]]
"""By mapping: the digests that are told, and those of what is downloaded."""
Ends = Mapping[str, tuple[str, ...]]
"""By subject, every event that says its job is over."""


def is_quiet(database: Database) -> bool:
    """Whether every job has a final state, and what was made for one alone is removed."""
    with database.reading() as session:
        open_jobs = select(func.count()).select_from(Job).where(Job.state.not_in(TERMINAL))
        return session.scalar(open_jobs) == 0 and not spent_shards(session)


def told_results(url: str, database: Database) -> Results:
    """Of every mapping, as the running API has it."""
    with database.reading() as session:
        mappings = list(session.scalars(select(QueryMapping.id)))
    found: Results = {}
    with httpx.Client(base_url=url, timeout=30) as http:
        for mapping in mappings:
            told = digests(http.get(f"/v1/mappings/{mapping}").raise_for_status().json())
            files = {name: f"/v1/mappings/{mapping}/results/{name}" for name in told}
            got = {name: http.get(path).raise_for_status() for name, path in files.items()}
            sums = {name: hashlib.sha256(each.content).hexdigest() for name, each in got.items()}
            found[mapping] = (told, sums)
    return found


def sweep(database: Database, storage: Storage) -> tuple[int, tuple[str, ...]]:
    """Remove what kills left and no row speaks of, as `fsck --repair` does on a stopped service.

    How many files that was, and every other finding.
    """
    with database.reading() as session:
        findings = check_everything(session, storage, tell=lambda key: None)
    others = [f"{each.kind}: {each.key}" for each in findings if each.kind != "orphan"]
    return repair(storage, findings), tuple(others)


def survey(
    database: Database,
    storage: Storage,
    results: Results,
    fsck: tuple[str, ...],
) -> Findings:
    """All that the checker needs, of a service that is stopped and swept."""
    with database.reading() as session:
        ends = _ends(session)
        return Findings(
            _queries(session, storage, ends),
            _mappings(session, list(storage.keys("mappings")), results, ends),
            fsck,
            _shards(session, ends),
            _rankings(session, ends),
        )


def _queries(session: Session, storage: Storage, ends: Ends) -> dict[str, FoundQuery]:
    return {
        query.id: FoundQuery(
            query.state, query.sha256, _sha256(storage, query.storage_key), ends[query.id]
        )
        for query in session.scalars(select(Query))
    }


def _mappings(
    session: Session, keys: Sequence[str], results: Results, ends: Ends
) -> dict[str, FoundMapping]:
    rows = session.execute(select(QueryMapping, Job.state).join(Job, Job.id == QueryMapping.job_id))
    sets = _sets(keys)
    return {
        mapping.id: FoundMapping(
            mapping.external_id or "",
            state,
            ends[mapping.id],
            sets[mapping.id],
            *results.get(mapping.id, ({}, {})),
            left=sum(key.startswith(f"{shards_prefix(mapping.id)}/") for key in keys),
        )
        for mapping, state in rows
    }


def _shards(session: Session, ends: Ends) -> dict[str, FoundShard]:
    rows = session.execute(select(Shard, Job.state).join(Job, Job.id == Shard.job_id))
    return {shard.id: FoundShard(shard.mapping_id, state, ends[shard.id]) for shard, state in rows}


def _rankings(session: Session, ends: Ends) -> dict[str, FoundRanking]:
    rows = session.execute(select(Ranking, Job.state).join(Job, Job.id == Ranking.job_id))
    return {
        ranking.id: FoundRanking(
            state, ends[ranking.id], sum("problem" not in each for each in ranking.items or ())
        )
        for ranking, state in rows
    }


def _ends(session: Session) -> Ends:
    found: dict[str, tuple[str, ...]] = defaultdict(tuple)
    events = select(Event.subject_id, Event.kind).order_by(Event.id)
    for subject, kind in session.execute(events):
        if kind in ENDS:
            found[subject] += (kind,)
    return found


def _sha256(storage: Storage, key: str) -> str | None:
    try:
        return hashlib.sha256(read_whole(storage, key)).hexdigest()
    except FileNotFoundError:
        return None


def _sets(keys: Iterable[str]) -> Counter[str]:
    """How many attempts have left files, by mapping: keys are `mappings/ID/ATTEMPT/NAME`."""
    folders = {tuple(key.split("/")[1:3]) for key in keys}
    return Counter(mapping for mapping, attempt in folders if attempt.isdecimal())
