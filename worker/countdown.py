"""How long a stage will still take, said as part of its name."""

from __future__ import annotations

import math
import time

from worker.orders import Report

STEP = 0.01
"""Before so much is done, nobody knows; after as much again, it is said anew."""


class Countdown:
    """Reports a stage between two shares of a job's progress, with the time that is left."""

    def __init__(self, report: Report, stage: str, *, begin: float, end: float) -> None:
        self._report, self._stage = report, stage
        self._begin, self._span = begin, end - begin
        self._began, self._left, self._next = time.monotonic(), "", STEP

    def __call__(self, share: float) -> None:
        """`share` of the stage is done."""
        if share >= self._next:
            elapsed = time.monotonic() - self._began
            self._left = f", about {duration(elapsed * (1 - share) / share)} left"
            self._next = share + STEP
        self._report(f"{self._stage}{self._left}", self._begin + self._span * share)


def duration(seconds: float) -> str:
    """Rounded up, so coarsely that it does not change with every step."""
    if seconds <= 100:
        return f"{max(1, math.ceil(seconds / 10)) * 10} s"
    return f"{math.ceil(seconds / 60)} min"
