"""cells.parquet of an import, written block by block: it never is in memory whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from worker.imports.cell_sources import LatentBlock

Float32 = npt.NDArray[np.float32]
Categories: TypeAlias = "pd.Categorical[Any]"

ROW_GROUP = 65_536
INDEX = "__index_level_0__"
"""What pandas calls an index without a name, and makes the index again when it reads."""


@dataclass(frozen=True)
class CellColumns:
    """Everything of the cells but their latents, as long as there are cells."""

    names: pd.Index
    batch: Categories
    labels: Mapping[str, Categories]
    """By label level, in order."""
    umap: Float32 | None

    def rows(self, start: int, stop: int) -> dict[str, pa.Array]:
        chosen = {"batch": self.batch, **self.labels}
        # Text, as in the table of a reference that was built here.
        found = {
            name: pa.array(np.asarray(values[start:stop]), pa.string())
            for name, values in chosen.items()
        }
        if self.umap is not None:
            for i in range(self.umap.shape[1]):
                found[f"umap_{i}"] = pa.array(self.umap[start:stop, i])
        return found


def write_cells(
    path: Path,
    columns: CellColumns,
    blocks: Iterator[LatentBlock],
    report: Callable[[float], None],
) -> None:
    """Write the table; `report` hears the share that is done."""
    n_cells = len(columns.names)
    writer: pq.ParquetWriter | None = None
    try:
        for group in _groups(blocks):
            table = _table(columns, group)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table, row_group_size=ROW_GROUP)
            report(group[-1].stop / n_cells)
    finally:
        if writer is not None:
            writer.close()


def _groups(blocks: Iterator[LatentBlock]) -> Iterator[list[LatentBlock]]:
    group: list[LatentBlock] = []
    for block in blocks:
        group.append(block)
        if block.stop - group[0].start >= ROW_GROUP:
            yield group
            group = []
    if group:
        yield group


def _table(columns: CellColumns, group: list[LatentBlock]) -> pa.Table:
    start, stop = group[0].start, group[-1].stop
    arrays = _latents("latent", np.concatenate([block.mean for block in group]))
    variances = [block.variance for block in group if block.variance is not None]
    if variances:
        arrays |= _latents("variance", np.concatenate(variances))
    arrays |= columns.rows(start, stop)
    arrays[INDEX] = pa.array(columns.names[start:stop], pa.string())
    return pa.table(arrays).replace_schema_metadata(_as_pandas_writes(arrays))


def _latents(name: str, values: Float32) -> dict[str, pa.Array]:
    return {f"{name}_{i}": pa.array(values[:, i]) for i in range(values.shape[1])}


def _as_pandas_writes(arrays: Mapping[str, pa.Array]) -> dict[bytes, bytes]:
    """The metadata that makes pandas restore the index, from an empty frame of the same columns."""
    frame = pd.DataFrame({name: values.slice(0, 0).to_pandas() for name, values in arrays.items()})
    described: dict[bytes, bytes] = pa.Table.from_pandas(frame.set_index(INDEX)).schema.metadata
    return described
