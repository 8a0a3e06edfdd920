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


def described(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Figures with what a page has to know beside them: when, and on which machine."""
    machine = {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "machine": platform.machine(),
        "processor": _processor(),
        "versions": {"python": platform.python_version()}
        | {package: metadata.version(package) for package in PACKAGES},
    }
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"benchmark": name, "at": at, **figures, **machine}


def keep(name: str, figures: dict[str, Any]) -> None:
    """Print the figures and write them to bench/results."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    told = json.dumps(described(name, figures), indent=1)
    (RESULTS / f"{name}.json").write_text(told + "\n")
    sys.stdout.write(f"{name}: {json.dumps(figures)}\n")
    sys.stdout.flush()
