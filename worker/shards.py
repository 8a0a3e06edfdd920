"""Shards of a large query on disk: what one worker made of its cells, for the one that maps.

A shard holds what `project_cells` leaves behind, the counts of the cells that a fit may learn from,
and its share of the counts of query.h5ad, packed. Whoever fits and encodes reads no other counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from worker.alignment import Index
from worker.orders import MapOrder, ShardOrder
from worker.projected_query import ProjectedCells, ProjectedQuery
from worker.projections import StoredProjections

FACTS = "shard.json"


@dataclass(frozen=True)
class SampledCounts:
    """Counts of some cells of one shard: those that a fit may learn from are among them."""

    cells: Index
    """Ascending, (c,)."""
    counts: sp.csr_matrix
    """Their rows, (c, genes of the panel)."""


@dataclass(frozen=True)
class SampledShards:
    """The same of all shards, where `ProjectedQuery` finds the cells of the sample.

    The counts stay on the disk: all batches together may have sampled most of a large query.
    """

    parts: Sequence[SampledCounts]

    def in_order(self, cells: Index) -> sp.csr_matrix:
        """Chosen cells in the given order, (cells, genes of the panel)."""
        found, places = [], []
        for part in self.parts:
            rows = np.searchsorted(part.cells, cells)
            mine = np.flatnonzero(np.append(part.cells, -1)[rows] == cells)
            found.append(part.counts[rows[mine]])
            places.append(mine)
        return sp.vstack(found, format="csr")[np.argsort(np.concatenate(places))]


@dataclass(frozen=True)
class MadeBy:
    """On what a shard was projected: on another, the last bits may differ."""

    device: str
    threads: int

    @classmethod
    def order(cls, order: MapOrder | ShardOrder) -> MadeBy:
        """The class of device alone: two GPUs are as good as one."""
        return cls(order.device.partition(":")[0], order.threads)


def write_shard(folder: Path, part: ProjectedCells, sample: SampledCounts, made_by: MadeBy) -> None:
    """Write all but the packed counts and the projections, which were kept there block by block."""
    arrays: dict[str, Tensor | np.ndarray[Any, Any]] = {
        "totals": part.totals,
        "occupied": part.occupied,
        "hashes": part.hashes,
        "sample.cells": sample.cells,
        "sample.indptr": sample.counts.indptr,
        "sample.indices": sample.counts.indices,
        "sample.data": sample.counts.data,
    }
    for name, values in arrays.items():
        plain = values.cpu().numpy() if isinstance(values, Tensor) else values
        np.save(folder / f"{name}.npy", plain)
    facts = {"start": part.start, "stop": part.stop, "n_genes": sample.counts.shape[1]}
    (folder / FACTS).write_text(json.dumps(facts | asdict(made_by)))


def are_made_by(folders: Sequence[Path], made_by: MadeBy) -> bool:
    """Whether whoever has this device and so many threads would have made the same bytes."""
    facts = [_facts(folder) for folder in folders]
    return all(MadeBy(each["device"], each["threads"]) == made_by for each in facts)


def read_shards(folders: Sequence[Path]) -> ProjectedQuery:
    """The shards of a whole query, in their order; projections stay on disk until they are used.

    Raises:
        ValueError: the shards do not follow each other.
    """
    parts = [_read_part(folder) for folder in folders]
    starts, stops = [part.start for part in parts], [part.stop for part in parts]
    if starts != [0, *stops[:-1]]:
        raise ValueError(f"shards of cells that begin at {starts} and end at {stops}")
    return ProjectedQuery(parts, SampledShards([_read_sample(folder) for folder in folders]))


def _read_part(folder: Path) -> ProjectedCells:
    facts = _facts(folder)
    return ProjectedCells(
        start=facts["start"],
        stop=facts["stop"],
        projections=StoredProjections(folder),
        totals=torch.from_numpy(_array(folder, "totals")),
        occupied=_array(folder, "occupied"),
        hashes=_array(folder, "hashes"),
    )


def _read_sample(folder: Path) -> SampledCounts:
    cells, indptr = _array(folder, "sample.cells"), _array(folder, "sample.indptr")
    indices, data = (
        np.load(folder / f"sample.{name}.npy", mmap_mode="r") for name in ("indices", "data")
    )
    shape = len(cells), _facts(folder)["n_genes"]
    return SampledCounts(cells, sp.csr_matrix((data, indices, indptr), shape, copy=False))


def _facts(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / FACTS).read_text()))


def _array(folder: Path, name: str) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = np.load(folder / f"{name}.npy")
    return found
