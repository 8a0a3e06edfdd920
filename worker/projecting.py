"""A shard of a large query: the counts of some of its cells in, the shard's folder out."""

from __future__ import annotations

from typing import Any

from worker.matched_query import match_query
from worker.orders import Report, ShardOrder
from worker.packed_counts import OwnCounts, store_packed
from worker.projections import InFiles
from worker.reference_cache import ReferenceCache
from worker.shards import MadeBy, SampledCounts, write_shard

PROJECTED = 0.6
"""The progress when the counts have been projected; packing them is the rest."""


def run_shard(order: ShardOrder, references: ReferenceCache, report: Report) -> dict[str, Any]:
    """Project the cells of a shard and write it into the order's folder.

    Raises:
        Problem: the query and the reference do not fit together, with what to do about it.
    """
    report("loading", 0.0)
    matched = match_query(order, references)
    surgery, cells = matched.surgery, (order.start, order.stop)
    kept = InFiles(order.out, order.stop - order.start)
    part = surgery.project_cells(*cells, kept, lambda done: report("reading", PROJECTED * done))
    chosen = surgery.sample_of(part, matched.recipe)
    sample = SampledCounts(chosen, matched.counts.chosen(chosen))
    write_shard(order.out, part, sample, MadeBy.order(order))
    report("writing", PROJECTED)
    store_packed(OwnCounts(matched.query, threads=order.threads, cells=cells), order.out)
    return {"n_cells": order.stop - order.start}
