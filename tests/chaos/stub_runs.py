"""In place of `worker.runs`: moments of sleep, and results that are a function of the query."""

from __future__ import annotations

import hashlib
import random
import time
from typing import Any

from models_store.digests import file_sha256
from worker.orders import MapOrder, Order, Report

SHORTEST, LONGEST = 0.1, 0.6  # seconds
STEP_SECONDS = 0.02
RESULTS = {"latent.npy": 4096, "latent.parquet": 9000, "query_weights.safetensors": 700}
"""Names, and sizes in bytes."""


def prepare(threads: int) -> None:
    """Nothing is to be made ready."""


def run(order: Order, report: Report) -> dict[str, Any]:
    """Files are written half before and half after the sleep: a kill finds them unfinished."""
    assert isinstance(order, MapOrder)
    digest = hashlib.sha256(order.options["recipe"].encode())
    for file in sorted(order.canonical.iterdir()):
        digest.update(f"{file.name} {file_sha256(file)}".encode())
    seconds = random.uniform(SHORTEST, LONGEST)
    for name, size in RESULTS.items():
        content = hashlib.shake_256(digest.digest() + name.encode()).digest(size)
        with (order.out / name).open("wb") as file:
            file.write(content[: size // 2])
            file.flush()
            _sleep(seconds / len(RESULTS), report, name)
            file.write(content[size // 2 :])
    return {"n_cells": 0}


def _sleep(seconds: float, report: Report, stage: str) -> None:
    began = time.monotonic()
    while (spent := time.monotonic() - began) < seconds:
        report(stage, spent / seconds)
        time.sleep(STEP_SECONDS)
