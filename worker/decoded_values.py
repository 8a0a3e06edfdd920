"""Files of decoded values that a mapping was asked for: a row for each cell, streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from app.wanted_outputs import WantedOutput
from models_store.decoding import decode_block
from worker.matched_query import MatchedQuery
from worker.names import free_name
from worker.projected_query import ProjectedQuery

Float32 = npt.NDArray[np.float32]

VALUES_AT_ONCE = 4_000_000
"""Of one group of rows of a parquet file, about, and so what is held in memory at a time."""


def write_outputs(
    out: Path,
    matched: MatchedQuery,
    projected: ProjectedQuery,
    weights: dict[str, Tensor],
    progress: Callable[[float], None],
) -> None:
    """Write the file of every output that the mapping was asked for.

    Args:
        out: the folder.
        matched: the query on its reference.
        projected: every cell of it.
        weights: its query weights.
        progress: told the share done; raises when the mapping is to end.
    """
    names = np.asarray([str(name) for name in matched.obs.index], dtype=object)
    wanted = matched.outputs
    for number, each in enumerate(wanted):
        schema = _schema(each)
        with pq.ParquetWriter(out / each.file, schema) as parquet:
            at = 0
            for values in _groups(_blocks(each, matched, projected, weights)):
                rows = zip([*values.T, names[at : at + len(values)]], schema, strict=True)
                columns = [pa.array(row, field.type) for row, field in rows]
                parquet.write_table(pa.Table.from_arrays(columns, schema=schema))
                at += len(values)
                progress((number + at / len(names)) / len(wanted))


def _schema(wanted: WantedOutput) -> pa.Schema:
    """Columns of the features, then the cell, which pandas reads as the index."""
    cell = free_name("cell", set(wanted.features))
    empty = pd.DataFrame({name: np.empty(0, np.float32) for name in wanted.features})
    empty.index = pd.Index([], dtype=object, name=cell)
    fields = [*((name, pa.float32()) for name in wanted.features), (cell, pa.string())]
    return pa.schema(fields, metadata=pa.Schema.from_pandas(empty).metadata)


def _blocks(
    wanted: WantedOutput,
    matched: MatchedQuery,
    projected: ProjectedQuery,
    weights: dict[str, Tensor],
) -> Iterator[Float32]:
    surgery = matched.surgery
    columns = torch.tensor(wanted.columns, device=surgery.device)
    for network, projection, cells in surgery.blocks_to_decode(projected, weights):
        found = decode_block(network, wanted.output, projection, cells, batch=wanted.batch)
        yield found[:, columns].cpu().numpy()


def _groups(blocks: Iterator[Float32]) -> Iterator[Float32]:
    """Blocks joined until they fill a group of rows."""
    waiting: list[Float32] = []
    for block in blocks:
        waiting.append(block)
        if sum(each.size for each in waiting) >= VALUES_AT_ONCE:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
