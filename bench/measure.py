"""Figures of a benchmark: medians with their spread, printed and kept as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path("bench/results")
PACKAGES = ("cellgraft", "torch", "numpy", "numba", "scvi-tools")


def _processor() -> str | None:
    """What Linux calls it; None elsewhere."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else None


def spread(seconds: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(seconds), 4),
        "min": round(min(seconds), 4),
        "max": round(max(seconds), 4),
    }


def keep(name: str, figures: dict[str, Any]) -> None:
    """Print the figures and write them to bench/results."""
    machine = {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "machine": platform.machine(),
        "processor": _processor(),
        "versions": {"python": platform.python_version()}
        | {package: metadata.version(package) for package in PACKAGES},
    }
    whole = {"benchmark": name, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **figures}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**whole, **machine}, indent=1) + "\n")
    sys.stdout.write(f"{name}: {json.dumps(figures)}\n")
    sys.stdout.flush()
