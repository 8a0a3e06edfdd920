"""Large queries by curl to a warm service: seconds by stage and peak memory, upload to latent."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.intake import write_csr
from bench.measure import RESULTS, keep
from bench.resident import WorkerProcesses
from bench.simulated import simulate
from demo.cellgraft import REFERENCE_NAME, build_reference, running_service
from demo.curl import curl_file, curl_json

SHAPES = {
    "10k": (10_000, 2_000, 200),
    "100k": (100_000, 2_000, 200),
    "1M": (1_000_000, 2_000, 200),
    "wide": (50_000, 30_000, 900),
}
"""Cells, genes, and entries of each cell."""
LONG = ("10k", "100k", "1M")
BARS = {"wide": {"seconds": 45}, "1M": {"seconds": 360, "peak_mb": 2048}}
STRETCH = {"wide": {"seconds": 25}, "1M": {"seconds": 180, "peak_mb": 1024}}
WARM_CELLS = 2_000
CHOSEN = "BENCH_LARGE"
"""Names of shapes, with commas: only these are measured, and the others' figures are kept."""
KEPT_FILES = "BENCH_FILES"
"""A folder where the files stay from one run to the next."""
Figures = dict[str, Any]


def run() -> None:
    found = _earlier()
    names = os.environ.get(CHOSEN, ",".join(SHAPES)).split(",")
    with tempfile.TemporaryDirectory(prefix="cellgraft-bench-") as made, _files(made) as files:
        folder = Path(made)
        shutil.copytree(_with_reference(files), folder / "data")
        paths = {name: _file(files, name) for name in ("warm", *names)}
        for name in names:
            with (
                running_service(folder / "data", log=folder / "service.log") as url,
                WorkerProcesses() as processes,
            ):
                _map(url, paths["warm"], folder)
                before = processes.processor_seconds()
                found[name] = _map(url, paths[name], folder)
            spent = processes.processor_seconds()
            found[name] |= {
                **processes.figures(),
                "processor_seconds": {
                    role: round(seconds - before.get(role, 0.0), 1)
                    for role, seconds in spent.items()
                },
                "file_mb": paths[name].stat().st_size >> 20,
            }
    keep("large", {"shapes": found, **_judged(found)})


@contextmanager
def _files(made: str) -> Iterator[Path]:
    folder = Path(os.environ.get(KEPT_FILES, made))
    folder.mkdir(exist_ok=True)
    yield folder


def _with_reference(files: Path) -> Path:
    """The data folder of a service that has a reference of 2,000 genes."""
    folder = files / "data"
    if not folder.exists():
        cells = simulate(4000, ["a", "b"], seed=4)
        cells.var_names = [f"gene{i}" for i in range(cells.n_vars)]
        cells.write_h5ad(files / "reference.h5ad")
        build_reference(files / "reference.h5ad", folder, max_epochs=10)
    return folder


def _earlier() -> dict[str, Figures]:
    path = RESULTS / "large.json"
    return dict(json.loads(path.read_text())["shapes"]) if path.exists() else {}


def _file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.h5ad"
    if not path.exists():
        write_csr(path, *SHAPES.get(name, (WARM_CELLS, 2_000, 200)))
    return path


def _map(url: str, file: Path, folder: Path) -> Figures:
    """Upload, wait, download. Stages of the mapping are its own; the rest is told by its times."""
    began = time.time()
    mapping = curl_json(f"{url}/v1/map?reference={REFERENCE_NAME}", "-T", str(file))
    uploaded = time.time()
    while not mapping["terminal"]:
        mapping = curl_json(f"{url}/v1/mappings/{mapping['id']}?wait=30")
    assert mapping["state"] == "succeeded", mapping["problem"]
    seen = time.time()
    results = f"{url}/v1/mappings/{mapping['id']}/results"
    curl_file(f"{results}/latent.parquet", folder / "latent.parquet")
    done = time.time()
    started, finished = (_clock(mapping[name]) for name in ("started_at", "finished_at"))
    stages = mapping["summary"]["seconds"]
    seconds = {
        "upload": uploaded - began,
        "checking": started - uploaded,
        **stages,
        "publishing": finished - started - sum(stages.values()),
        "seeing": seen - finished,
        "download": done - seen,
    }
    return {
        "n_cells": mapping["summary"]["n_cells"],
        "seconds": round(done - began, 2),
        "stages": {name: round(value, 2) for name, value in seconds.items()},
    }


def _clock(told: str) -> float:
    return datetime.fromisoformat(told).timestamp()


def _judged(found: dict[str, Figures]) -> Figures:
    """Which bars are met, and how each stage grows from 10,000 to 1,000,000 cells."""
    judged: Figures = {
        name: {
            case: all(found[case][what] <= bar for what, bar in wanted.items())
            for case, wanted in bars.items()
            if case in found
        }
        for name, bars in (("bars_met", BARS), ("stretch_met", STRETCH))
    }
    judged |= {"bars": BARS, "stretch": STRETCH}
    if all(name in found for name in LONG):
        judged["growth"] = _growth([found[name] for name in LONG])
    return judged


def _growth(figures: list[Figures]) -> Figures:
    """A line through each stage: seconds for a million cells more, and where it begins."""
    cells = [each["n_cells"] / 1e6 for each in figures]
    lines = {}
    for stage in figures[0]["stages"]:
        seconds = [each["stages"][stage] for each in figures]
        slope, begin = np.polyfit(cells, seconds, 1)
        lines[stage] = {"slope": round(float(slope), 2), "begin": round(float(begin), 2)}
    return lines
