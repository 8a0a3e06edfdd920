"""A large query read whole, and in shards: seconds of each part, and what more workers would take.

The shards are read one after the other, each with the machine to itself, as on machines of their
own. Starting, claiming and moving files between machines is not in the figures.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anndata
import numpy as np

from app.references import manifest_digest
from bench.measure import keep
from bench.simulated import simulate
from models_store.blocks import shard_ranges
from models_store.bundle import load_bundle
from tests.worker.engine.simulated import Simulated, build_reference, shard_of, write_canonical
from worker.mapping import run_mapping
from worker.orders import MapOrder
from worker.projecting import run_shard
from worker.reference_cache import ReferenceCache

N_CELLS, N_SHARDS = 200_000, 4
TIMED = "provenance.json"
Told = dict[str, Any]


def run() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder, references = Path(made), ReferenceCache()
        whole = _order(folder)
        run_mapping(dataclasses.replace(whole, out=_new(folder / "warm")), references, _quiet)
        alone, told = _seconds(lambda: run_mapping(whole, references, _quiet))
        shards, reading = [], []
        for start, stop in shard_ranges(N_CELLS, -(-N_CELLS // N_SHARDS)):
            shard = shard_of(whole, _new(folder / f"shard-{start}"), start, stop)
            reading.append(_seconds(partial(run_shard, shard, references, _quiet))[0])
            shards.append(shard.out)
        joined = dataclasses.replace(whole, out=_new(folder / "joined"), shards=tuple(shards))
        joining, told_joined = _seconds(lambda: run_mapping(joined, references, _quiet))
        assert _contents(joined.out) == _contents(whole.out), "not the same bytes"
        keep(
            "shards",
            {
                "n_cells": N_CELLS,
                "alone": {"seconds": round(alone, 2), "stages": told["seconds"]},
                "shards": {"seconds": [round(each, 2) for each in reading]},
                "joining": {"seconds": round(joining, 2), "stages": told_joined["seconds"]},
                "shard_megabytes": [round(_bytes(each) / 1e6) for each in shards],
                "ratio": round(alone / (max(reading) + joining), 2),
            },
        )


def _order(folder: Path) -> MapOrder:
    reference = build_reference(
        folder / "reference",
        _simulated(simulate(2000, ["a", "b"], seed=1)),
        architecture={"n_hidden": 128, "n_latent": 10},
    )
    write_canonical(folder / "query", _simulated(simulate(N_CELLS, ["c", "d"], seed=2)))
    manifest, _ = load_bundle(reference.folder)
    return MapOrder(
        mapping_id="bench",
        canonical=folder / "query",
        bundle=reference.folder,
        manifest_sha256=manifest_digest(manifest.model_dump(mode="json")),
        out=_new(folder / "whole"),
        options={"batch_key": ["batch"], "recipe": "default"},
        query_facts={},
        threads=2,
        device="cpu",
    )


def _simulated(cells: anndata.AnnData) -> Simulated:
    return Simulated(cells.X, cells.obs)


def _seconds(work: Callable[[], Told]) -> tuple[float, Told]:
    began = time.perf_counter()
    done = work()
    return time.perf_counter() - began, done


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _bytes(folder: Path) -> int:
    return int(np.sum([path.stat().st_size for path in folder.iterdir()]))


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != TIMED}


def _quiet(stage: str, progress: float) -> None:
    """Nobody hears how far it has come."""
