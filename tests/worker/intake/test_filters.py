"""Which compressions inside an HDF5 file are read, also in the sandbox, and which are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from app.problems import UnsupportedFile
from worker.intake.filters import load_plugins

from . import cell_ranger_files as made
from . import files
from .bad_files import replace

GOOD: dict[str, dict[str, Any]] = {
    "gzip": {"compression": "gzip"},
    "gzip with shuffle and checksums": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"compression": "lzf"},
    "zstd": dict(hdf5plugin.Zstd()),
    "blosc": dict(hdf5plugin.Blosc(cname="lz4hc", shuffle=1)),
    "blosc with zstd": dict(hdf5plugin.Blosc(cname="zstd", shuffle=2)),
}


@pytest.mark.parametrize("name", GOOD)
def test_is_read_in_the_sandbox(
    name: str, sandboxed: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    matrix = files.counts(40, 20)
    report = sandboxed(made.write_v3(tmp_path / "query.h5", matrix, chunks=(16,), **GOOD[name]))
    assert report["counts"]["total"] == matrix.sum()
    path = files.write_h5ad(tmp_path / "query.h5ad", matrix, "dense")
    with h5py.File(path, "a") as file:
        replace(file, "X", matrix, chunks=(7, 20), **GOOD[name])
    assert sandboxed(path)["counts"]["total"] == matrix.sum()


@pytest.mark.parametrize(
    ("name", "filter_"),
    [("lz4", hdf5plugin.LZ4()), ("bitshuffle", hdf5plugin.Bitshuffle())],
)
def test_is_refused_by_name(
    name: str, filter_: Any, sandboxed: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    hdf5plugin.register()
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        replace(file, "X/data", file["X/data"][:].astype(np.int32), chunks=(8,), **filter_)
    with pytest.raises(UnsupportedFile, match=name) as caught:
        sandboxed(path)
    assert caught.value.errors[0]["code"] == "unknown-filter"


def test_no_other_plugin_stays_loaded() -> None:
    hdf5plugin.register()
    load_plugins.cache_clear()
    load_plugins()
    left = [name for name, code in hdf5plugin.FILTERS.items() if h5py.h5z.filter_avail(code)]
    assert sorted(left) == ["blosc", "zstd"]
