"""Importing an atlas: so many cells with latents, label levels and a UMAP, and no counts."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import torch

from bench.measure import keep

N_GENES, N_HIDDEN, N_LATENT = 2000, 128, 30
LEVELS = (4, 12, 30, 60, 120)
"""Labels of each level."""
N_BATCHES = 40
BLOCK = 100_000
LIMIT_SECONDS, LIMIT_BYTES = 15 * 60, 8 * 2**30


def write_save(folder: Path) -> None:
    """A model with random weights, as scvi-tools saves it."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(0, 0.05, shape).astype(np.float32))

    state = OrderedDict()
    for name, n_in, n_out in (("z_encoder", N_GENES, N_LATENT), ("l_encoder", N_GENES, 1)):
        state[f"{name}.encoder.fc_layers.Layer 0.0.weight"] = weights(N_HIDDEN, n_in + N_BATCHES)
        state[f"{name}.encoder.fc_layers.Layer 0.0.bias"] = weights(N_HIDDEN)
        for head in ("mean_encoder", "var_encoder"):
            state[f"{name}.{head}.weight"] = weights(n_out, N_HIDDEN)
            state[f"{name}.{head}.bias"] = weights(n_out)
    state["decoder.px_decoder.fc_layers.Layer 0.0.weight"] = weights(N_HIDDEN, N_LATENT + N_BATCHES)
    state["decoder.px_decoder.fc_layers.Layer 0.0.bias"] = weights(N_HIDDEN)
    state["decoder.px_scale_decoder.0.weight"] = weights(N_GENES, N_HIDDEN)
    state["decoder.px_scale_decoder.0.bias"] = weights(N_GENES)
    state["px_r"] = weights(N_GENES)
    batches = np.array([f"donor {i}" for i in range(N_BATCHES)], dtype=object)
    fields = {
        "X": {"state_registry": {"n_vars": N_GENES}},
        "batch": {"state_registry": {"categorical_mapping": batches, "original_key": "donor"}},
    }
    registry = {
        "scvi_version": "1.4.2",
        "model_name": "SCVI",
        "setup_args": {"batch_key": "donor", "labels_key": None, "layer": None},
        "field_registries": fields,
    }
    options = {"n_latent": N_LATENT, "gene_likelihood": "nb", "encode_covariates": True}
    options |= {"use_batch_norm": "none", "use_layer_norm": "both"}
    attributes = {"registry_": registry, "init_params_": {"non_kwargs": options, "kwargs": {}}}
    names = np.array([f"GENE{i}" for i in range(N_GENES)], dtype=object)
    saved = {"model_state_dict": state, "var_names": names, "attr_dict": attributes}
    torch.save(saved, folder / "model.pt", pickle_protocol=pickle.DEFAULT_PROTOCOL)


def write_cells(path: Path, n_cells: int) -> None:
    """Minified data of as many cells, written in blocks."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for group in ("obs", "var", "obsm", "X", "uns"):
            file.create_group(group)
        _write_frame(file["var"], np.array([f"GENE{i}" for i in range(N_GENES)], dtype=object))
        _write_frame(file["obs"], None)
        file["X"].attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        file["X"].attrs["shape"] = (n_cells, N_GENES)
        for name, length in (("data", 0), ("indices", 0), ("indptr", n_cells + 1)):
            file["X"].create_dataset(name, (length,), "i4", fillvalue=0)
        names = file["obs"].create_dataset("_index", (n_cells,), h5py.string_dtype())
        widths = {"scvi_latent_qzm": N_LATENT, "scvi_latent_qzv": N_LATENT, "X_umap": 2}
        arrays = {
            name: file["obsm"].create_dataset(name, (n_cells, width), "f4", chunks=(10_000, width))
            for name, width in widths.items()
        }
        columns = {f"level_{i + 1}": n for i, n in enumerate(LEVELS)} | {"donor": N_BATCHES}
        codes = {
            name: _write_categories(file["obs"], name, n, n_cells) for name, n in columns.items()
        }
        file["obs"].attrs["column-order"] = list(columns)
        for start in range(0, n_cells, BLOCK):
            stop = min(start + BLOCK, n_cells)
            names[start:stop] = [f"ACGTACGTACGT-{i}" for i in range(start, stop)]
            for name, stored in arrays.items():
                stored[start:stop] = (
                    rng.random((stop - start, widths[name]), dtype=np.float32) + 0.1
                )
            for name, stored in codes.items():
                stored[start:stop] = rng.integers(0, columns[name], stop - start)


def _write_frame(group: h5py.Group, names: np.ndarray | None) -> None:
    group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0"})
    group.attrs["_index"] = "_index"
    group.attrs["column-order"] = np.array([], dtype="S1")
    if names is not None:
        group.create_dataset("_index", data=names, dtype=h5py.string_dtype())


def _write_categories(obs: h5py.Group, name: str, n: int, n_cells: int) -> h5py.Dataset:
    column = obs.create_group(name)
    column.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0"})
    column.attrs["ordered"] = False
    kind = "donor" if name == "donor" else f"{name} type"
    labels = [f"{kind} {i}" for i in range(n)]
    column.create_dataset("categories", data=labels, dtype=h5py.string_dtype())
    return column.create_dataset("codes", (n_cells,), "i1" if n < 127 else "i2")


def run() -> None:
    n_cells = int(os.environ.get("CELLS", "2300000"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_save(folder)
        write_cells(folder / "cells.h5ad", n_cells)
        seconds, peak = _import(folder)
        stored = next((folder / "data/store").rglob("cells.parquet")).stat().st_size
        figures = {
            "cells": n_cells,
            "latent": N_LATENT,
            "levels": len(LEVELS),
            "h5ad_gib": round((folder / "cells.h5ad").stat().st_size / 2**30, 2),
            "parquet_gib": round(stored / 2**30, 2),
            "seconds": round(seconds, 1),
            "peak_gib": round(peak / 2**30, 2),
        }
    keep("imports", figures)
    if seconds > LIMIT_SECONDS or peak > LIMIT_BYTES:
        raise SystemExit("over the limit of 15 minutes and 8 GiB")


def _import(folder: Path) -> tuple[float, int]:
    """Seconds of the command, and the most memory that its processes held at one time."""
    command = [sys.executable, "-m", "app.cli", "references", "import", str(folder)]
    command += ["--name", "atlas", "--cells", str(folder / "cells.h5ad")]
    for i in range(len(LEVELS)):
        command += ["--labels-key", f"level_{i + 1}"]
    command += ["--umap-key", "X_umap", "--data-dir", str(folder / "data")]
    began, peak = time.monotonic(), 0
    process = subprocess.Popen(command, env={**os.environ, "CELLGRAFT_THREADS": "2"})
    while process.poll() is None:
        peak = max(peak, sum(map(_resident, [process.pid, *_children(process.pid)])))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"the import failed with {process.returncode}")
    return time.monotonic() - began, peak


def _children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in listed]


def _resident(pid: int) -> int:
    """Bytes of memory that are the process's own: not what it shares, nor pages of files."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    held = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return (int(held.get("RssAnon", 0)) + int(held.get("RssShmem", 0))) * 1024
