"""The parent's end of the compute child: start it, give it an order, stop it, outlive it."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from app.problems import Problem
from worker.held_process import HeldProcess
from worker.lines import Closed, Lines
from worker.orders import WARM_BYTES, Order, as_json
from worker.outcomes import Stopped, WorkerDied

log = logging.getLogger(__name__)

TICK_SECONDS = 0.05


class ChildProcess(HeldProcess):
    """The child as the parent holds it."""

    def __init__(
        self,
        *,
        threads: int,
        runs: str = "worker.runs",
        warm_bytes: int = WARM_BYTES,
        stall_seconds: float = 1800.0,
        grace_seconds: float = 2.0,
    ) -> None:
        arguments = ["--threads", str(threads), "--runs", runs, "--warm-bytes", str(warm_bytes)]
        super().__init__("worker.child", arguments, kind=socket.SOCK_STREAM)
        self.threads = threads
        self.stall_seconds, self.grace_seconds = stall_seconds, grace_seconds
        self.warm: tuple[str, ...] = ()
        """Digests of the references that the child has loaded, the last used first."""
        self.automatic_device: str | None = None
        """What `auto` stands for, once the child has said so."""
        self._lines: Lines | None = None
        self._number = 0

    def start(self) -> None:
        super().start()
        self.warm = ()
        assert self._socket is not None
        self._lines = Lines(self._socket)

    def run(
        self,
        order: Order,
        *,
        stopped: Callable[[], bool] = lambda: False,
        report: Callable[[str, float], None] = lambda stage, progress: None,
    ) -> dict[str, Any]:
        """Carry out one order; returns what the run made of it.

        Raises:
            Problem: the run ended with this problem.
            Stopped: `stopped` said so, and the child ended the run or was killed.
            WorkerDied: the child died, or was killed because it showed no progress.
        """
        if not self.wait_until_ready() or self._lines is None:
            raise WorkerDied("the compute child is not running")
        self._number += 1
        try:
            self._lines.send({"order": self._number, **as_json(order)})
            return self._follow(self._lines, stopped, report)
        except Closed as error:
            raise WorkerDied("the compute child died") from error

    def _follow(
        self, lines: Lines, stopped: Callable[[], bool], report: Callable[[str, float], None]
    ) -> dict[str, Any]:
        moved, told = time.monotonic(), ("", 0.0)
        while True:
            if stopped():
                self._cancel(lines)
                raise Stopped
            message = lines.receive(TICK_SECONDS)
            if message is None:
                pass
            elif "stage" in message:
                told_before, told = told, (str(message["stage"]), float(message["progress"]))
                moved = time.monotonic() if told != told_before else moved
                report(*told)
            else:
                self._note_warm(message)
                if "problem" in message:
                    raise Problem.from_dict(message["problem"])
                if "done" in message:
                    return dict(message["done"])
            if time.monotonic() - moved > self.stall_seconds:
                self.kill()
                raise WorkerDied("the compute child showed no progress")

    def _cancel(self, lines: Lines) -> None:
        """Ask, wait a moment for any final answer, then kill."""
        deadline = time.monotonic() + self.grace_seconds
        try:
            lines.send({"cancel": self._number})
            while (left := deadline - time.monotonic()) > 0:
                message = lines.receive(left)
                if message is not None and "stage" not in message:
                    self._note_warm(message)
                    return
        except Closed:
            return
        log.warning("the compute child does not react to a cancel; it is killed")
        self.kill()

    def _note_warm(self, message: Mapping[str, Any]) -> None:
        self.warm = tuple(message.get("warm", self.warm))

    def _hears_ready(self, seconds: float) -> bool:
        try:
            message = self._lines.receive(seconds) if self._lines is not None else None
        except Closed:
            return False
        if message is not None:
            self.automatic_device = message.get("device")
        return message is not None

    def _environment(self) -> Mapping[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CELLGRAFT_", "AWS_"))
        }
        return kept | {
            "OMP_NUM_THREADS": str(self.threads),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS is deterministic only with this
            "NUMBA_NUM_THREADS": str(self.threads),
            # A thread that spins at a barrier takes the core that its neighbour needs: on a busy
            # machine passive waits made training 5 to 8 times faster (docs/decisions/0012).
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
            "PYTHONUNBUFFERED": "1",
        }
