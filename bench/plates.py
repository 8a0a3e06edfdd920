"""A plate by curl: 96 samples of 5,000 cells submitted together, and the same as one query.

Both ways give a sample the same latents, byte for byte. `BENCH_PLATE=SAMPLES,CELLS` is for another
size; `BENCH_PLATE_WAYS=samples` or `=query` for one of the two ways.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import func, select

from app.database import Database
from app.tables import Event
from bench.measure import keep, spread
from bench.simulated import simulate
from demo.cellgraft import REFERENCE_NAME, build_reference, running_service

UPLOADS_AT_ONCE = 2
Told = dict[str, Any]


def run() -> None:
    n_samples, n_cells = (int(n) for n in os.environ.get("BENCH_PLATE", "96,5000").split(","))
    ways = os.environ.get("BENCH_PLATE_WAYS", "samples,query").split(",")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        reference = folder / "reference.h5ad"
        simulate(4000, ["a", "b"], seed=4).write_h5ad(reference)
        files = [_sample(folder, number, n_cells) for number in range(n_samples)]
        build_reference(reference, folder / "data", max_epochs=20)
        figures: Told = {"samples": n_samples, "cells_each": n_cells}
        with running_service(folder / "data", log=folder / "service.log") as url:
            _map_alone(url, files[:1])  # loads the reference, starts the child
            if "samples" in ways:
                figures["submitted together"], alone = _timed(folder, url, _map_alone, files)
            if "query" in ways:
                figures["one query"], plate = _timed(folder, url, _map_together, files)
            if len(ways) > 1:
                for at, each in enumerate(alone):
                    theirs = plate[0][at * n_cells : (at + 1) * n_cells]
                    assert each.tobytes() == theirs.tobytes(), f"sample {at}: not the same bytes"
                figures["same_bytes"] = True
    keep("plates", figures)


def _sample(folder: Path, number: int, n_cells: int) -> Path:
    path = folder / f"sample-{number:03}.h5ad"
    cells = simulate(n_cells, [f"sample {number}"], seed=100 + number)
    del cells.obs["batch"]
    cells.write_h5ad(path)
    return path


def _timed(folder: Path, url: str, way: Any, files: Sequence[Path]) -> tuple[Told, list[Any]]:
    """Seconds from the first upload to the last result, stages of every mapping, latents."""
    began = time.time()
    mappings, uploaded = way(url, files)
    seconds = time.time() - began
    stages = [each["summary"]["seconds"] for each in mappings]
    told = {
        "seconds": round(seconds, 1),
        "uploading": round(uploaded - began, 1),
        "megabytes": round(sum(file.stat().st_size for file in files) / 1e6),
        "stages": {name: spread([each[name] for each in stages]) for name in stages[0]},
        "sums": {name: round(sum(each[name] for each in stages), 1) for name in stages[0]},
        **_recorded(folder, began),
    }
    return told, [_latent(url, each["id"], folder) for each in mappings]


def _map_alone(url: str, files: Sequence[Path]) -> tuple[list[Told], float]:
    """Each file a query and a mapping of its own; all are uploaded before one waits for any."""
    ask = f"{url}/v1/map?reference={REFERENCE_NAME}"
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        asked = list(pool.map(lambda file: _curl("-T", str(file), ask), files))
    uploaded = time.time()
    return [_finished(url, mapping) for mapping in asked], uploaded


def _map_together(url: str, files: Sequence[Path]) -> tuple[list[Told], float]:
    parts = [argument for file in files for argument in ("-F", f"file=@{file}")]
    ask = f"{url}/v1/map?reference={REFERENCE_NAME}&batch_key=sample"
    asked = _curl(*parts, ask)
    uploaded = time.time()
    return [_finished(url, asked)], uploaded


def _finished(url: str, mapping: Told) -> Told:
    while not mapping["terminal"]:
        mapping = _curl(f"{url}/v1/mappings/{mapping['id']}?wait=60")
    assert mapping["state"] == "succeeded", mapping["problem"]
    return mapping


def _latent(url: str, mapping_id: str, folder: Path) -> Any:
    path = folder / "latent.npy"
    _curl("-o", str(path), f"{url}/v1/mappings/{mapping_id}/results/latent.npy")
    return np.load(path)


def _curl(*arguments: str) -> Told:
    command = ["curl", "--silent", "--show-error", "--fail-with-body", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout)) if done.stdout else {}


def _recorded(folder: Path, began: float) -> Told:
    """Seconds in which the worker checked and mapped: between claims and ends of these jobs."""
    database = Database(f"sqlite:///{folder / 'data' / 'cellgraft.db'}")
    found: Told = {}
    with database.reading() as session:
        for kind in ("check", "map"):
            rows = session.execute(
                select(Event.job_id, func.min(Event.at), func.max(Event.at))
                .where(Event.kind.in_([f"{kind}.running", f"{kind}.succeeded"]))
                .group_by(Event.job_id)
            )
            spans = [(a.timestamp(), b.timestamp()) for _, a, b in rows if a.timestamp() >= began]
            found[f"{kind}s"] = {
                "each": spread([b - a for a, b in spans]),
                "sum": round(sum(b - a for a, b in spans), 1),
                "last": round(max(b for _, b in spans) - began, 1),
            }
    database.close()
    return found
