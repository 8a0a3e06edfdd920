"""In place of `worker.runs`: moments of sleep, and results that are a function of the query."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models_store.digests import file_sha256
from worker.orders import ExplainOrder, MapOrder, Order, Report, SampleOrder, ShardOrder

SHORTEST, LONGEST = 0.1, 0.6  # seconds
STEP_SECONDS = 0.02
RESULTS = {"latent.npy": 4096, "latent.parquet": 9000, "query_weights.safetensors": 700}
"""Names, and sizes in bytes."""
SHARD_BYTES = 3000
EXPLAINED = 0.5


def prepare(threads: int, warm_bytes: int) -> str:
    """Nothing is to be made ready."""
    return "cpu"


def warm() -> list[str]:
    return []


def run(order: Order, report: Report) -> dict[str, Any]:
    """Raises ValueError: shards are not those of this query."""
    if isinstance(order, SampleOrder):
        return {"cells": [0, 1]}
    if isinstance(order, ExplainOrder):
        _sleep(random.uniform(SHORTEST, LONGEST), report, "comparing")
        return {"explained": EXPLAINED, "n_cells": len(order.cells)}
    assert isinstance(order, MapOrder | ShardOrder)
    digest = hashlib.sha256(order.options["recipe"].encode())
    for file in sorted(order.canonical.iterdir()):
        digest.update(f"{file.name} {file_sha256(file)}".encode())
    if isinstance(order, ShardOrder):
        files = {f"{order.start}-{order.stop}": SHARD_BYTES}
    else:
        _check(order.shards, digest.digest(), order.canonical)
        files = RESULTS
    _write(order.out, files, digest.digest(), report)
    return {"n_cells": 0}


def _write(folder: Path, files: dict[str, int], digest: bytes, report: Report) -> None:
    """Half of each file before and half after a sleep: a kill finds them unfinished."""
    seconds = random.uniform(SHORTEST, LONGEST)
    for name, size in files.items():
        content = _content(digest, name, size)
        with (folder / name).open("wb") as file:
            file.write(content[: size // 2])
            file.flush()
            _sleep(seconds / len(files), report, name)
            file.write(content[size // 2 :])


def _check(shards: Sequence[Path], digest: bytes, canonical: Path) -> None:
    """Each is whole and of this query, and together they are all of its cells, in order."""
    at = 0
    for folder in shards:
        (file,) = folder.iterdir()
        start, stop = map(int, file.name.split("-"))
        if start != at or file.read_bytes() != _content(digest, file.name, SHARD_BYTES):
            raise ValueError(f"{file} is not the shard that begins at {at}")
        at = stop
    n_cells = json.loads((canonical / "canonical.json").read_text())["n_cells"]
    if shards and at != n_cells:
        raise ValueError(f"shards end at {at} of {n_cells} cells")


def _content(digest: bytes, name: str, size: int) -> bytes:
    return hashlib.shake_256(digest + name.encode()).digest(size)


def _sleep(seconds: float, report: Report, stage: str) -> None:
    began = time.monotonic()
    while (spent := time.monotonic() - began) < seconds:
        report(stage, spent / seconds)
        time.sleep(STEP_SECONDS)
