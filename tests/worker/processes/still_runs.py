"""What a child runs that talks and talks but does not move on."""

from __future__ import annotations

import time
from typing import Any

from worker.orders import Order, Report


def prepare(threads: int) -> str:
    return "cpu"


def run(order: Order, report: Report) -> dict[str, Any]:
    if order.options.get("do") != "still":
        return {}
    while True:
        report("fitting", 0.5)
        time.sleep(0.02)
