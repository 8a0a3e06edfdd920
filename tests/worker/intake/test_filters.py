"""Which compressions inside an HDF5 file are read, also in the sandbox, and which are not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from app.problems import UnsupportedFile

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
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        replace(file, "X/data", file["X/data"][:].astype(np.int32), chunks=(8,), **filter_)
    with pytest.raises(UnsupportedFile, match=name) as caught:
        sandboxed(path)
    assert caught.value.errors[0]["code"] == "unknown-filter"


def test_no_other_plugin_stays_loaded_where_foreign_files_are_read() -> None:
    told = (
        "import h5py, hdf5plugin\n"
        "from worker.intake.filters import drop_other_plugins\n"
        "drop_other_plugins()\n"
        "avail = h5py.h5z.filter_avail\n"
        "print(*[name for name, code in hdf5plugin.FILTERS.items() if avail(code)])"
    )
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert sorted(found.stdout.split()) == ["blosc", "zstd"]
