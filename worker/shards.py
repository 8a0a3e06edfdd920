"""Shards of a large query on disk: what one worker made of its cells, for the one that maps.

A shard holds what `project_cells` leaves behind, the counts of the cells that a fit may learn from,
and its share of the counts of query.h5ad, packed. Whoever fits and encodes reads no other counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from models_store.cells import Projection
from worker.alignment import Float32, Index
from worker.grafting import ProjectedCells, ProjectedQuery

FACTS = "shard.json"


@dataclass(frozen=True)
class SampledCounts:
    """Counts of some cells, by which `ProjectedQuery` finds those of the sample."""

    cells: Index
    """Ascending, (c,)."""
    counts: sp.csr_matrix
    """Their rows, (c, genes of the panel)."""

    def dense(self, cells: Index) -> Float32:
        """Chosen cells in the given order, (cells, genes of the panel)."""
        dense: Float32 = self.counts[np.searchsorted(self.cells, cells)].toarray()
        return dense


def write_shard(folder: Path, part: ProjectedCells, sample: SampledCounts) -> None:
    """Write all but the packed counts."""
    arrays: dict[str, Tensor | np.ndarray[Any, Any]] = {
        "z": part.projection.z,
        "log_library": part.projection.log_library,
        "totals": part.totals,
        "occupied": part.occupied,
        "hashes": part.hashes,
        "sample.cells": sample.cells,
        "sample.indptr": sample.counts.indptr,
        "sample.indices": sample.counts.indices,
        "sample.data": sample.counts.data,
    }
    if part.projection.library is not None:
        arrays["library"] = part.projection.library
    for name, values in arrays.items():
        plain = values.cpu().numpy() if isinstance(values, Tensor) else values
        np.save(folder / f"{name}.npy", plain)
    facts = {"start": part.start, "stop": part.stop, "n_genes": sample.counts.shape[1]}
    (folder / FACTS).write_text(json.dumps(facts))


def read_shards(folders: Sequence[Path]) -> ProjectedQuery:
    """The shards of a whole query, in their order; projections stay on disk until they are used.

    Raises:
        ValueError: the shards do not follow each other.
    """
    parts = [_read_part(folder) for folder in folders]
    starts, stops = [part.start for part in parts], [part.stop for part in parts]
    if starts != [0, *stops[:-1]]:
        raise ValueError(f"shards of cells that begin at {starts} and end at {stops}")
    samples = [_read_sample(folder) for folder in folders]
    counts = SampledCounts(
        np.concatenate([sample.cells for sample in samples]),
        sp.vstack([sample.counts for sample in samples], format="csr"),
    )
    return ProjectedQuery(parts, counts)


def _read_part(folder: Path) -> ProjectedCells:
    facts = json.loads((folder / FACTS).read_text())
    library = _mapped(folder, "library") if (folder / "library.npy").exists() else None
    return ProjectedCells(
        start=facts["start"],
        stop=facts["stop"],
        projection=Projection(_mapped(folder, "z"), library, _mapped(folder, "log_library")),
        totals=torch.from_numpy(_array(folder, "totals")),
        occupied=_array(folder, "occupied"),
        hashes=_array(folder, "hashes"),
    )


def _read_sample(folder: Path) -> SampledCounts:
    n_genes = json.loads((folder / FACTS).read_text())["n_genes"]
    cells, indptr, indices, data = (
        _array(folder, f"sample.{name}") for name in ("cells", "indptr", "indices", "data")
    )
    return SampledCounts(cells, sp.csr_matrix((data, indices, indptr), (len(cells), n_genes)))


def _array(folder: Path, name: str) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = np.load(folder / f"{name}.npy")
    return found


def _mapped(folder: Path, name: str) -> Tensor:
    # Copy on write: torch wants memory that could be written, and the file stays as it is.
    return torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c"))
