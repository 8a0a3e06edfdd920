"""Predicted labels: their files, written while they are computed, and what joins obs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from worker.csv_text import csv_header, csv_rows

Probabilities = npt.NDArray[np.float32]

LABEL, PROBABILITY = "cellgraft_label", "cellgraft_label_probability"
"""What a mapping adds to obs, under these names unless the query has such columns."""
OF_LABEL = "probability_"
"""Before a label, the column of its probability; so that none is called like the other columns."""
ROWS = 65_536
"""Of one group of a parquet file, and what is held in memory at a time."""


@dataclass(frozen=True)
class Predictions:
    """The most probable label of every cell, and how probable it is."""

    labels: tuple[str, ...]
    codes: npt.NDArray[np.int64]
    probability: Probabilities

    def columns(self, names: dict[str, str]) -> dict[str, Any]:
        """The columns that join obs, under the names that are free there."""
        label = pd.Categorical.from_codes(
            self.codes, categories=pd.Index(self.labels, dtype=object)
        )
        return {names[LABEL]: label, names[PROBABILITY]: self.probability}


def write_labels(
    out: Path,
    cell_names: Sequence[str] | pd.Index,
    labels: tuple[str, ...],
    blocks: Iterable[Tensor],
) -> Predictions:
    """labels.parquet and labels.csv: label, its probability, and that of every label.

    Args:
        out: the folder.
        cell_names: the index of both files.
        labels: the reference's, in the order of the probabilities.
        blocks: probabilities of the cells in their order, (cells of a block, labels).
    """
    names = [str(name) for name in cell_names]
    codes, best, at = [], [], 0
    with (
        pq.ParquetWriter(out / "labels.parquet", _schema(labels)) as parquet,
        (out / "labels.csv").open("wb") as csv,
    ):
        csv.write(csv_header(["cell", *_schema(labels).names[:-1]]))
        for p in _groups(blocks, len(labels)):
            code = p.argmax(axis=1)
            top = p[np.arange(len(p)), code]
            frame = _frame(names[at : at + len(p)], labels, p, code, top)
            parquet.write_table(pa.Table.from_pandas(frame, schema=_schema(labels)))
            csv.write(csv_rows([frame.index.tolist(), *(frame[name].to_numpy() for name in frame)]))
            codes.append(code.astype(np.int64))
            best.append(top)
            at += len(p)
    return Predictions(labels, np.concatenate(codes), np.concatenate(best))


def _groups(blocks: Iterable[Tensor], n_labels: int) -> Iterator[Probabilities]:
    """Blocks joined until they fill a group of rows; one empty group where there is no cell."""
    waiting, n, none = [], 0, True
    for block in blocks:
        waiting.append(block.cpu().numpy())
        n += len(block)
        if n >= ROWS:
            yield np.concatenate(waiting)
            waiting, n, none = [], 0, False
    if waiting or none:
        yield np.concatenate(waiting) if waiting else np.zeros((0, n_labels), np.float32)


def _frame(
    names: list[str],
    labels: tuple[str, ...],
    p: Probabilities,
    code: npt.NDArray[np.intp],
    top: Probabilities,
) -> pd.DataFrame:
    of_each = {f"{OF_LABEL}{label}": p[:, k] for k, label in enumerate(labels)}
    label = np.array(labels, dtype=object)[code]
    index = pd.Index(names, dtype=object, name="cell")
    return pd.DataFrame({"label": label, "probability": top, **of_each}, index=index)


def _schema(labels: tuple[str, ...]) -> pa.Schema:
    """By the empty table, so that every group says the same of its columns."""
    nothing = np.zeros((0, len(labels)), np.float32)
    empty = _frame([], labels, nothing, np.zeros(0, np.intp), np.zeros(0, np.float32))
    schema = pa.Schema.from_pandas(empty)
    numbers = [pa.field(name, pa.float32()) for name in empty.columns[1:]]
    fields = [pa.field("label", pa.string()), *numbers, pa.field("cell", pa.string())]
    return pa.schema(fields, metadata=schema.metadata)
