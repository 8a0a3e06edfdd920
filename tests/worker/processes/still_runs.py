"""What a child runs that talks and talks but does not move on."""

from __future__ import annotations

import time
from typing import Any

from app.problems import DamagedReference
from worker.orders import Order, Report

LOADED: list[str] = []


def prepare(threads: int, warm_bytes: int) -> str:
    return "cpu"


def warm() -> list[str]:
    return LOADED


def run(order: Order, report: Report) -> dict[str, Any]:
    LOADED.insert(0, order.manifest_sha256)
    do = order.options.get("do")
    if do == "forget":
        LOADED[1:] = []
    if do == "refuse":
        raise DamagedReference("Its files are damaged.", fix="Restore them.")
    if do != "still":
        return {}
    while True:
        report("fitting", 0.5)
        time.sleep(0.02)
