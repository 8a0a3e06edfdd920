"""What the compute child does with an order, after torch has been made deterministic."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from models_store.warm_kernels import warm_up
from worker.comparing import run_explain, run_sample
from worker.mapping import run_mapping
from worker.orders import ExplainOrder, MapOrder, Order, Report, SampleOrder, ShardOrder
from worker.projecting import run_shard
from worker.reference_cache import ReferenceCache

_references = ReferenceCache()
"""Warm from one order to the next: this module lives as long as the child."""


def prepare(threads: int, warm_bytes: int) -> str:
    """Make every result a function of its input alone. Imports above have warmed the child.

    Loaded references may take `warm_bytes` together. Returns the device that `auto` stands for.
    """
    _references.most_bytes = warm_bytes
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Nothing here reads memory that it has not written, so filling it first only takes time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    warm_up()
    return _device("auto")


def run(order: Order, report: Report) -> dict[str, Any]:
    """A mapping's summary, figures of a shard or of a ranking, or a new version's manifest."""
    torch.set_num_threads(order.threads)
    order = dataclasses.replace(order, device=_device(order.device))
    if isinstance(order, MapOrder):
        return run_mapping(order, _references, report)
    if isinstance(order, ShardOrder):
        return run_shard(order, _references, report)
    if isinstance(order, SampleOrder):
        return run_sample(order, report)
    if isinstance(order, ExplainOrder):
        return run_explain(order, _references, report)
    # Imported here because scanpy takes seconds, and most children only ever map.
    from worker.building import run_build

    return run_build(order, report)


def warm() -> list[str]:
    """Digests of the references that are loaded, the last used first."""
    return _references.digests


def _device(asked: str) -> str:
    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"
