"""What the compute child does when the warm path is timed: `worker.runs`, and when it did what."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from worker import runs
from worker.orders import Order, Report

TIMELINE = "BENCH_TIMELINE"
"""The environment's name for the file to which each order adds a line."""

prepare, warm = runs.prepare, runs.warm


def run(order: Order, report: Report) -> dict[str, Any]:
    """As `worker.runs`. The second word of a fit comes right before its first training step."""
    moments = {"received": time.time()}

    def noted(stage: str, progress: float) -> None:
        moment = "first step" if stage == "fitting" and stage in moments else stage
        moments.setdefault(moment, time.time())
        report(stage, progress)

    done = runs.run(order, noted)
    moments["done"] = time.time()
    with Path(os.environ[TIMELINE]).open("a") as file:
        file.write(json.dumps(moments) + "\n")
    return done
