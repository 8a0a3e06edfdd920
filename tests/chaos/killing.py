"""The killer: which process dies next, and when, as the seed says."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from tests.e2e.processes import command, descendants, is_running

MARKS = {
    "api": "-m app.cli api ",
    "worker": "-m worker run ",
    "child": "-m worker.child ",
    "zygote": "-m worker.zygote ",
    "supervisor": "-m app.cli serve ",
    "postgresql": "/postgres -D ",
    "redis": "redis-server ",
}
WEIGHTS = {
    "api": 4,
    "worker": 4,
    "child": 6,
    "zygote": 2,
    "check": 1,
    "supervisor": 1,
    "postgresql": 2,
    "redis": 2,
}
"""`check` is what a zygote has forked to read one file: there for some tenths of a second."""
REAL_WEIGHTS = {**WEIGHTS, "worker": 5, "child": 10, "zygote": 1, "check": 0, "redis": 1}
"""Real mappings are there to be interrupted."""
LOOK_SECONDS = 0.01
PATIENCE_SECONDS = 2.0


def targets(spared: Collection[int]) -> dict[str, list[int]]:
    """The processes below this one that may be killed, by what they are.

    Args:
        spared: processes that were there before the round, as the servers of other tests are.
    """
    found: dict[str, list[int]] = {}
    for pid in descendants(os.getpid()):
        if pid in spared:
            continue
        line = command(pid)
        name = next((name for name, mark in MARKS.items() if mark in line), None)
        if name == "zygote" and MARKS["zygote"] in command(_parent(pid)):
            name = "check"
        if name is not None and is_running(pid):
            found.setdefault(name, []).append(pid)
    return found


def kill_one(
    dice: random.Random,
    weights: Mapping[str, int],
    *,
    spared: Collection[int],
    tend: Callable[[], None],
    longest_pause: float,
) -> str:
    """Wait a random moment, kill -9 one process, and say what it was."""
    ends = time.monotonic() + dice.uniform(0.0, longest_pause)
    while time.monotonic() < ends:
        tend()
        time.sleep(min(0.05, max(ends - time.monotonic(), 0)))
    while True:
        wanted = dice.choices(list(weights), list(weights.values()))[0]
        patience = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < patience:
            for pid in dice.sample(pids := targets(spared).get(wanted, []), len(pids)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    return wanted
            tend()
            time.sleep(LOOK_SECONDS)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
