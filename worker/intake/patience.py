"""An end for reads that have none: damaged heaps send the HDF5 library in circles."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

LEAST_SECONDS = 1.0
VALUES_PER_SECOND = 100_000.0
"""A tenth of what a slow machine reads of strings, the slowest values there are."""


@contextmanager
def losing_patience(values: int = 1) -> Iterator[None]:
    """Let this process be killed if reading so few values takes it so long.

    The library does not come back to Python, so nothing less would do. Time is the processor's: a
    busy machine or a slow disk costs nobody an upload. The parent takes the signal for what it is,
    a file that the reader cannot bear.
    """
    signal.setitimer(signal.ITIMER_PROF, LEAST_SECONDS + values / VALUES_PER_SECOND)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
