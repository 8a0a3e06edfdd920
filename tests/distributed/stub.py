"""`python -m tests.distributed.stub`: a whole worker, but that it sleeps instead of computing.

What to do comes in a mapping's batch key: `sleep` (STUB_SECONDS), `still` (stands still until it
is stopped) or `deaf` (does not even stop).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app.settings import Settings
from worker.child_process import ChildProcess
from worker.commands.opening import Opened, open_worker
from worker.commands.run import serve
from worker.orders import MapOrder, Order
from worker.outcomes import Stopped
from worker.zygote_process import ZygoteProcess

STEP_SECONDS = 0.02


class _Idle:
    """A process that is always there."""

    def is_alive(self) -> bool:
        return True

    def is_ready(self) -> bool:
        return True

    def start(self) -> None:
        return None

    def stop(self) -> None:
        return None


class StubZygote(_Idle, ZygoteProcess):
    """Never gets a check to do."""

    def is_ready(self) -> bool:
        return False


class StubChild(_Idle, ChildProcess):
    def __init__(self, seconds: float) -> None:
        super().__init__(threads=1)
        self.seconds = seconds

    def run(
        self,
        order: Order,
        *,
        stopped: Callable[[], bool] = lambda: False,
        report: Callable[[str, float], None] = lambda stage, progress: None,
    ) -> dict[str, Any]:
        assert isinstance(order, MapOrder)
        do = order.options["batch_key"][0]
        report("fitting", 0.0)
        ends = time.monotonic() + (self.seconds if do == "sleep" else 600)
        while (left := ends - time.monotonic()) > 0:
            if stopped() and do != "deaf":
                raise Stopped
            if do == "sleep":
                report("fitting", 1 - left / self.seconds)
            time.sleep(min(STEP_SECONDS, left))
        (order.out / "latent.npy").write_bytes(b"numbers")
        others = (digest for digest in self.warm if digest != order.manifest_sha256)
        self.warm = (order.manifest_sha256, *others)
        return {"pid": os.getpid()}


def open_stub(settings: Settings, seconds: float) -> Opened:
    opened = open_worker(settings)
    place = replace(opened.place, zygote=StubZygote(), child=StubChild(seconds))
    return replace(opened, place=place)


if __name__ == "__main__":
    found = Settings()
    serve(open_stub(found, float(os.environ["STUB_SECONDS"])), found)
