"""How each kind of job is done: check a query, map it, rank references, build one."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session

from app.jobs import Claim
from app.mappings import record_results
from app.problems import Problem
from app.queries import accept_query
from app.rankings import record_ranking
from app.references import bundle_prefix, publish_version
from app.shards import record_shard, shards_prefix, split_mapping
from app.turns import RECENT_SECONDS
from app.work import BuildWork, CheckWork, MapWork, RankWork, ShardWork, Work
from app.workers import workers_seen
from models_store.blocks import shard_ranges
from worker.attempt_store import AttemptStore
from worker.attempts import Attempt
from worker.checking import CheckOrder
from worker.intake.samples import UploadedFile
from worker.orders import BuildOrder, MapOrder, ShardOrder
from worker.outcomes import Done, Outcome
from worker.ranking import compare_references
from worker.workplace import Workplace, describe_files


def performer(place: Workplace, work: Work) -> Callable[[Attempt], Outcome]:
    """What an attempt's thread is to do for this work."""
    if isinstance(work, CheckWork):
        return lambda attempt: check_query(place, work, attempt)
    if isinstance(work, MapWork):
        return lambda attempt: map_query(place, work, attempt)
    if isinstance(work, ShardWork):
        return lambda attempt: read_shard(place, work, attempt)
    if isinstance(work, RankWork):
        return lambda attempt: rank_references(place, work, attempt)
    return lambda attempt: build_reference(place, work, attempt)


def split_if_large(session: Session, claim: Claim, work: Work, *, shard_cells: int) -> bool:
    """Share out the reading of a large query, where there are workers to share it with."""
    if not isinstance(work, MapWork) or work.shards or work.n_cells <= shard_cells:
        return False
    if work.options.get("cell_filter"):  # shards are of all the cells that a query has
        return False
    if workers_seen(session, within_seconds=RECENT_SECONDS) < 2:
        return False
    return split_mapping(session, claim, shard_ranges(work.n_cells, shard_cells))


def check_query(place: Workplace, work: CheckWork, attempt: Attempt) -> Outcome:
    """Prove an upload and publish its canonical query."""
    scratch = place.scratch(attempt.claim)
    prefix = f"queries/{work.query_id}/canonical-{attempt.claim.attempt}"
    with _store(place, attempt) as store:
        first, *others = [
            UploadedFile(store.upload(part.key, sha256=part.sha256), part.filename)
            for part in work.parts
        ]
        order = CheckOrder(
            path=first.path,
            name=first.name,
            others=tuple(others),
            folder=scratch,
            options=work.options,
            seconds=place.intake_seconds,
            limits=place.intake_limits(),
        )
        try:
            inspection = place.zygote.check(
                order,
                stopped=attempt.stopped,
                report=lambda fraction: attempt.report("checking", fraction),
            )
        except Problem as problem:
            if problem.inspection is None:  # of a check that did not live to write its report
                problem.inspection = {"problems": problem.errors}
            raise
        store.publish(scratch, prefix)

    def record(session: Session, claim: Claim) -> bool:
        return accept_query(session, claim, canonical_prefix=prefix, inspection=inspection)

    return Done(record, prefix)


def map_query(place: Workplace, work: MapWork, attempt: Attempt) -> Outcome:
    """Map a query onto a reference version and publish the results."""
    scratch = place.new_scratch(attempt.claim)
    prefix = f"mappings/{work.mapping_id}/{attempt.claim.attempt}"
    with _store(place, attempt) as store:
        order = MapOrder(
            mapping_id=work.mapping_id,
            canonical=store.folder(work.canonical_prefix),
            bundle=store.folder(work.reference_prefix),
            manifest_sha256=work.manifest_sha256,
            out=scratch,
            options=work.options,
            query_facts=work.query_facts,
            reference_facts=work.reference_facts,
            threads=place.threads,
            device=place.device,
            shards=tuple(store.folder(shard) for shard in work.shards),
        )
        summary = place.child.run(order, stopped=attempt.stopped, report=attempt.report)
        results = describe_files(scratch)
        store.publish(scratch, prefix)

    def record(session: Session, claim: Claim) -> bool:
        return record_results(
            session, claim, results_prefix=prefix, results=results, summary=summary
        )

    return Done(record, prefix)


def read_shard(place: Workplace, work: ShardWork, attempt: Attempt) -> Outcome:
    """Read some cells of a large query for a mapping that waits for them."""
    scratch = place.new_scratch(attempt.claim)
    mapping = work.mapping
    prefix = f"{shards_prefix(mapping.mapping_id)}/{work.start}-{attempt.claim.attempt}"
    with _store(place, attempt) as store:
        order = ShardOrder(
            canonical=store.folder(mapping.canonical_prefix),
            bundle=store.folder(mapping.reference_prefix),
            manifest_sha256=mapping.manifest_sha256,
            out=scratch,
            options=mapping.options,
            start=work.start,
            stop=work.stop,
            threads=place.threads,
            device=place.device,
        )
        place.child.run(order, stopped=attempt.stopped, report=attempt.report)
        store.publish(scratch, prefix)

    def record(session: Session, claim: Claim) -> bool:
        return record_shard(session, claim, prefix=prefix)

    return Done(record, prefix)


def rank_references(place: Workplace, work: RankWork, attempt: Attempt) -> Outcome:
    """Compare a query with references; nothing is stored but figures."""
    items = compare_references(place, work, attempt)

    def record(session: Session, claim: Claim) -> bool:
        return record_ranking(session, claim, items=items)

    return Done(record, None)


def build_reference(place: Workplace, work: BuildWork, attempt: Attempt) -> Outcome:
    """Build a reference version and publish its bundle."""
    scratch = place.new_scratch(attempt.claim)
    prefix = bundle_prefix(work.name, work.version, attempt.claim.attempt)
    with _store(place, attempt) as store:
        order = BuildOrder(
            name=work.name,
            version=work.version,
            canonical=store.folder(work.canonical_prefix),
            out=scratch,
            options=work.options,
            source=work.source,
            threads=place.threads,
            device=place.device,
        )
        manifest = place.child.run(order, stopped=attempt.stopped, report=attempt.report)
        store.publish(scratch, prefix)

    def record(session: Session, claim: Claim) -> bool:
        return publish_version(session, claim, prefix=prefix, manifest=manifest)

    return Done(record, prefix)


def _store(place: Workplace, attempt: Attempt) -> AttemptStore:
    return AttemptStore(place.storage, attempt, patience_seconds=place.patience_seconds)
