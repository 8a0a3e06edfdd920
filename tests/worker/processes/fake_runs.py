"""What the compute child runs in tests: instead of a network, whatever the order's options say."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from app.problems import DamagedReference, UntrainableReference
from worker.orders import (
    BuildOrder,
    ExplainOrder,
    MapOrder,
    Order,
    Report,
    SampleOrder,
    ShardOrder,
)

ODD_SUMMARIES = {"not-a-number": {"cells": float("nan")}}


def _explain(order: ExplainOrder) -> dict[str, Any]:
    """Whatever the reference's name says."""
    name = json.loads((order.bundle / "manifest.json").read_text())["name"]
    if name == "refuse":
        raise DamagedReference("Its files are damaged.", fix="Restore them.")
    if name == "fault":
        raise RuntimeError("a bug")
    while name == "hang":
        time.sleep(0.05)
    return {"explained": 0.5, "n_cells": len(order.cells)}


DEVICE = "cuda:7"
"""What this says it would compute on, and no machine of the tests has."""


def prepare(threads: int, warm_bytes: int) -> str:
    return DEVICE


def warm() -> list[str]:
    return []


def run(order: Order, report: Report) -> dict[str, Any]:
    if isinstance(order, SampleOrder):
        return {"cells": [0, 1, 2]}
    if isinstance(order, ExplainOrder):
        return _explain(order)
    return _do(order, report)


def _do(order: MapOrder | ShardOrder | BuildOrder, report: Report) -> dict[str, Any]:
    options = order.options
    do = options.get("do") or (options.get("batch_key") or ["finish"])[0]
    report("starting", 0.0)
    if do == "steps":
        for step in range(int(options.get("steps", 200))):
            report("training", step / 200)
            time.sleep(0.02)
    elif do == "hang":
        time.sleep(600)
    elif do == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif do == "die-once" and not os.path.exists(options["mark"]):  # noqa: PTH110
        open(options["mark"], "w").close()  # noqa: PTH123
        os.kill(os.getpid(), signal.SIGKILL)
    elif do == "fault":
        raise RuntimeError("a bug")
    elif do == "refuse":
        raise UntrainableReference("Too few cells.", fix="Send more.")
    (order.out / "latent.npy").write_bytes(b"numbers")
    return {"did": do, "threads": order.threads, "pid": os.getpid(), **ODD_SUMMARIES.get(do, {})}
