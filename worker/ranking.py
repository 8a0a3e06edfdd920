"""The parent's side of a ranking: which references are compared, one order each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.coverage import Coverage, cover
from app.problems import Problem, StorageAway
from app.work import RankedVersion, RankWork
from models_store.gene_columns import QueryGenes
from models_store.manifest import Manifest
from worker.attempt_store import AttemptStore
from worker.attempts import Attempt
from worker.orders import ExplainOrder, SampleOrder
from worker.workplace import Workplace

MOST_COMPARED = 50
"""References that are loaded for one ranking: those that the query's genes cover best."""
SAMPLED = 0.1
"""The progress when the cells are chosen."""


def compare_references(place: Workplace, work: RankWork, attempt: Attempt) -> list[dict[str, Any]]:
    """For each reference that was compared its figures, or the problem that it had."""
    with _store(place, attempt) as store:
        canonical = store.folder(work.canonical_prefix)
        versions = _worth_loading(work, _genes(canonical))
        order = SampleOrder(canonical, threads=place.threads, device=place.device)
        sample = place.child.run(
            order,
            stopped=attempt.stopped,
            report=lambda _, share: attempt.report("sampling", SAMPLED * share),
        )
        cells = tuple(sample["cells"])
        return [
            _compare(place, attempt, version, canonical, cells, at / len(versions))
            for at, version in enumerate(versions)
        ]


def _compare(
    place: Workplace,
    attempt: Attempt,
    version: RankedVersion,
    canonical: Path,
    cells: tuple[int, ...],
    done: float,
) -> dict[str, Any]:
    progress = SAMPLED + (1 - SAMPLED) * done
    attempt.report("comparing", progress)
    try:
        # Lent one at a time: all references together may be larger than the disk.
        with _store(place, attempt) as store:
            order = ExplainOrder(
                canonical=canonical,
                bundle=store.folder(version.reference_prefix),
                manifest_sha256=version.manifest_sha256,
                cells=cells,
                threads=place.threads,
                device=place.device,
            )
            found = place.child.run(
                order,
                stopped=attempt.stopped,
                report=lambda *_: attempt.report("comparing", progress),
            )
    except StorageAway:
        raise
    except Problem as problem:
        found = {"problem": problem.as_dict()}
    return {"version_id": version.version_id, **found}


def _worth_loading(work: RankWork, genes: QueryGenes) -> list[RankedVersion]:
    """Those that share a gene with the query, the best covered first, and no more than most."""
    covered = [(_covered(version, genes), version) for version in work.versions]
    shared = [(coverage, version) for coverage, version in covered if coverage.n_matched]
    shared.sort(key=lambda each: -each[0].expected_expression_covered)
    return [version for _, version in shared[:MOST_COMPARED]]


def _covered(version: RankedVersion, genes: QueryGenes) -> Coverage:
    return cover(genes, Manifest.model_validate(version.manifest))


def _genes(canonical: Path) -> QueryGenes:
    return QueryGenes.stored(json.loads((canonical / "genes.json").read_text()))


def _store(place: Workplace, attempt: Attempt) -> AttemptStore:
    return AttemptStore(place.storage, attempt, patience_seconds=place.patience_seconds)
