"""Checking large uploads: seconds and peak memory, beside what `anndata.read_h5ad` takes."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import scipy.sparse as sp

from bench.measure import keep
from worker.checking import CheckOrder
from worker.intake.limits import Limits
from worker.zygote_process import ZygoteProcess

TEXT = h5py.string_dtype()
SHAPES = {"long": (1_000_000, 2_000, 200), "wide": (50_000, 30_000, 2_000)}
"""Cells, genes, and entries of each cell."""
BLOCK_ENTRIES = 2**23
DIFFERENT_BLOCKS = 3
MIB = 2**20
BARS: dict[str, dict[str, float]] = {
    "long": {"seconds": 90, "peak_mb": 500},
    "wide": {"seconds": 20},
    "wide, CSC": {"times_csr": 2},
}


def run() -> None:
    with tempfile.TemporaryDirectory(prefix="cellgraft-bench-") as made:
        folder = Path(made)
        paths = {"long": folder / "long.h5ad", "wide": folder / "wide.h5ad"}
        for name, path in paths.items():
            write_csr(path, *SHAPES[name])
        paths["wide, CSC"] = folder / "wide-csc.h5ad"
        write_csc(paths["wide"], paths["wide, CSC"])
        figures = {name: _measured(path) for name, path in paths.items()}
    csc = figures["wide, CSC"]
    csc["times_csr"] = round(csc["seconds"] / figures["wide"]["seconds"], 2)
    for name, bars in BARS.items():
        figures[name]["met"] = all(figures[name][what] <= bar for what, bar in bars.items())
    keep("intake", {"files": figures, "bars": BARS})


def write_csr(path: Path, n_cells: int, n_genes: int, entries: int) -> None:
    """A gzipped h5ad with so many counts in every cell, written as anndata would."""
    rows = BLOCK_ENTRIES // entries
    blocks = [_block(np.random.default_rng(i), rows, n_genes, entries) for i in range(3)]
    with h5py.File(path, "w") as file:
        data, indices = _begin(file, "csr_matrix", (n_cells, n_genes), n_cells * entries)
        for at, start in enumerate(range(0, n_cells, rows)):
            size = min(rows, n_cells - start) * entries
            genes, counts = blocks[at % DIFFERENT_BLOCKS]
            part = slice(start * entries, start * entries + size)
            indices[part], data[part] = genes[:size], counts[:size]
        file["X/indptr"] = np.arange(n_cells + 1, dtype=np.int64) * entries


def _block(
    rng: np.random.Generator, rows: int, n_genes: int, entries: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gene positions, rising in each row, and counts."""
    stride = n_genes // entries
    genes = rng.integers(0, stride, (rows, entries), dtype=np.int32)
    genes += np.arange(entries, dtype=np.int32) * stride
    return genes.ravel(), rng.geometric(0.5, rows * entries).astype(np.float32)


def write_csc(source: Path, path: Path) -> None:
    """The same matrix, column by column."""
    with h5py.File(source, "r") as file:
        stored = file["X"]
        shape = tuple(int(size) for size in stored.attrs["shape"])
        parts = (stored["data"][...], stored["indices"][...], stored["indptr"][...])
        matrix = sp.csr_matrix(parts, shape=shape).tocsc()
    with h5py.File(path, "w") as file:
        data, indices = _begin(file, "csc_matrix", shape, matrix.nnz)
        data[...], indices[...] = matrix.data, matrix.indices
        file["X/indptr"] = matrix.indptr


def _begin(
    file: h5py.File, encoding: str, shape: tuple[int, int], nnz: int
) -> tuple[h5py.Dataset, h5py.Dataset]:
    file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    for name, prefix, number in (("obs", "cell", shape[0]), ("var", "gene", shape[1])):
        group = file.create_group(name)
        group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0"})
        group.attrs["_index"] = "_index"
        group.attrs.create("column-order", [], dtype=TEXT, shape=(0,))
        group.create_dataset("_index", data=[f"{prefix}{i}" for i in range(number)], dtype=TEXT)
    matrix = file.create_group("X")
    matrix.attrs.update({"encoding-type": encoding, "encoding-version": "0.1.0"})
    matrix.attrs["shape"] = np.array(shape)
    how: dict[str, Any] = {"maxshape": (None,), "compression": "gzip"}
    return (
        matrix.create_dataset("data", (nnz,), "f4", **how),
        matrix.create_dataset("indices", (nnz,), "i4", **how),
    )


def _measured(path: Path) -> dict[str, Any]:
    """Each in a process of its own, so that the peak is its alone."""
    checked, read = (_in_process(what, path) for what in ("check", "anndata"))
    size = round(path.stat().st_size / MIB)
    return {**checked, "anndata": read, "file_mb": size}


def _in_process(what: str, path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.intake", what, str(path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(told))


def _check(path: Path) -> dict[str, float]:
    """By the zygote, as the service does. The peak is the larger one of zygote and check."""
    zygote = ZygoteProcess()
    zygote.start()
    assert zygote.wait_until_ready()
    with tempfile.TemporaryDirectory(dir=path.parent) as out:
        began = time.perf_counter()
        zygote.check(CheckOrder(path, Path(out), {}, 3600.0, Limits(cpu_seconds=3600)))
        seconds = time.perf_counter() - began
    zygote.stop()
    return _figures(seconds, resource.RUSAGE_CHILDREN)


def _read(path: Path) -> dict[str, float]:
    began = time.perf_counter()
    anndata.read_h5ad(path)
    return _figures(time.perf_counter() - began, resource.RUSAGE_SELF)


def _figures(seconds: float, who: int) -> dict[str, float]:
    peak = resource.getrusage(who).ru_maxrss * 1024 / MIB
    return {"seconds": round(seconds, 1), "peak_mb": round(peak)}


if __name__ == "__main__":
    treat = {"check": _check, "anndata": _read}[sys.argv[1]]
    sys.stdout.write(json.dumps(treat(Path(sys.argv[2]))))
