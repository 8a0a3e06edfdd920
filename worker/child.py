"""The compute child: spawned and kept warm, it holds torch and the loaded references.

Run as `python -m worker.child --fd N`. On the socket N it takes `{"order": number, ...}` and
`{"cancel": number}`, and answers with `{"stage", "progress"}`, then with one of `{"done"}`,
`{"problem"}`, `{"cancelled"}`, and beside it `"warm"`, digests of the references that it has
loaded. Its first message is `{"ready": true, "device": DEVICE}`, the device that `auto` stands for.
It goes when the socket closes.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import socket
import time
from typing import Any, Protocol, cast

from app.logs import set_up_plain_logs
from app.parent_death import die_with_parent
from app.problems import InternalFault, Problem
from worker.lines import Closed, Lines
from worker.orders import Cancelled, Order, Report, from_json

log = logging.getLogger(__name__)

TELL_SECONDS = 0.1


class Runs(Protocol):
    """The module that computes; `worker.runs` unless a test brings another."""

    def prepare(self, threads: int, warm_bytes: int) -> str | None:
        """Get ready; returns the device that `auto` stands for. None: it computes nothing."""

    def run(self, order: Order, report: Report) -> dict[str, Any]: ...

    def warm(self) -> list[str]:
        """Digests of the references that are loaded, the last used first."""


class Reporter:
    """The `report` of one order: tells the parent, and hears it cancel."""

    def __init__(self, lines: Lines, number: int) -> None:
        self.lines, self.number = lines, number
        self._stage = ""
        self._told = 0.0

    def __call__(self, stage: str, progress: float) -> None:
        while (message := self.lines.receive(0)) is not None:
            # A cancel that came too late for its own order must not end the next one.
            if message.get("cancel") == self.number:
                raise Cancelled
        now = time.monotonic()
        if stage != self._stage or now - self._told >= TELL_SECONDS:
            self._stage, self._told = stage, now
            self.lines.send({"stage": stage, "progress": progress})


def serve(lines: Lines, runs: Runs) -> None:
    while True:
        message = lines.receive(None)
        if message is None or "order" not in message:
            continue
        number = int(message.pop("order"))
        lines.send({**_answer(lines, runs, number, message), "warm": runs.warm()})


def _answer(lines: Lines, runs: Runs, number: int, message: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"done": runs.run(from_json(message), Reporter(lines, number))}
    except Cancelled:
        return {"cancelled": number}
    except Problem as problem:
        return {"problem": problem.as_dict()}
    except Closed:
        raise
    except Exception:
        log.exception("an order failed")
        fault = InternalFault(
            "The computation failed in a way that is the service's fault.",
            fix="Send the request again; if it fails again, show the worker's log to whoever "
            "runs the service.",
        )
        return {"problem": fault.as_dict()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m worker.child")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--warm-bytes", type=int, required=True)
    parser.add_argument("--runs", default="worker.runs")
    arguments = parser.parse_args()
    die_with_parent(signal.SIGKILL, parent=os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    set_up_plain_logs()
    lines = Lines(socket.socket(fileno=arguments.fd))
    runs = cast(Runs, importlib.import_module(arguments.runs))
    device = runs.prepare(arguments.threads, arguments.warm_bytes)
    try:
        lines.send({"ready": True, "device": device})
        serve(lines, runs)
    except Closed:
        return


if __name__ == "__main__":
    main()
