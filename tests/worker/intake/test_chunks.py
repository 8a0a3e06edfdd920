"""Chunks are full for what they hold: of whatever type, and with or without a filter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from worker.intake.chunks import short_chunk

from . import files
from .conftest import Checked

KINDS = {
    "texts": (h5py.string_dtype(), "name"),
    "texts of a length": (np.dtype("S7"), b"name"),
    "lists": (h5py.vlen_dtype("f8"), np.arange(3.0)),
    "truth": (np.dtype("?"), True),
    "arrays": (np.dtype(("f4", (3, 2))), np.ones((3, 2))),
    "records": (
        np.dtype([("a", "f4"), ("s", h5py.string_dtype()), ("k", "i8", (3,))]),
        (1.0, "name", [1, 2, 3]),
    ),
}
FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "gzip": {"compression": "gzip", "shuffle": True},
}


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_as_h5py_writes_it_is_full(kind: str, filters: str, tmp_path: Path) -> None:
    dtype, value = KINDS[kind]
    with h5py.File(tmp_path / "chunks.h5", "w") as file:
        dataset = file.create_dataset("x", (5,), dtype, chunks=(2,), **FILTERS[filters])
        for at in range(5):
            dataset[at] = value
        file.flush()
        assert short_chunk(dataset) is None


@pytest.mark.parametrize("filters", FILTERS)
def test_names_in_chunks_are_read(
    filters: str, check: Callable[..., Checked], tmp_path: Path
) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        for table, stem in (("obs", "cell"), ("var", "gene")):
            names = files.names(stem, len(file[f"{table}/_index"]))
            del file[f"{table}/_index"]
            file.create_dataset(
                f"{table}/_index", data=names, dtype=files.TEXT, chunks=(5,), **FILTERS[filters]
            )
    report, query = check(path)
    assert report["problems"] == []
    assert list(query.obs().index) == files.names("cell", report["n_cells"])
