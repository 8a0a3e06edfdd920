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
DISTRIBUTED = {
    "api": 4,
    "worker": 4,
    "child": 6,
    "zygote": 2,
    "check": 1,
    "postgresql": 2,
    "redis": 2,
}
"""`check` is what a zygote has forked to read one file: there for some tenths of a second."""
EMBEDDED = {"api": 3, "worker": 3, "child": 4, "zygote": 2, "check": 1, "supervisor": 3}
REAL = {"worker": 5, "child": 10, "zygote": 1, "check": 0, "redis": 1}
"""Instead of the above: real mappings are there to be interrupted."""
LOOK_SECONDS = 0.01
PATIENCE_SECONDS = 2.0


class Deck:
    """Targets in random order, each as often as its weight before any comes more often."""

    def __init__(self, dice: random.Random, weights: Mapping[str, int]) -> None:
        self._dice, self._weights = dice, weights
        self._cards: list[str] = []

    def draw(self) -> str:
        if not self._cards:
            self._cards = [name for name, weight in self._weights.items() for _ in range(weight)]
            self._dice.shuffle(self._cards)
        return self._cards.pop()

    def put_back(self, card: str) -> None:
        """Under the rest: what is not there at this moment is looked for again."""
        self._cards.insert(0, card)


def weights(mode: str, *, real: bool) -> dict[str, int]:
    """How often each target of a mode is chosen, beside the others."""
    found = EMBEDDED if mode == "embedded" else DISTRIBUTED
    chosen = {name: REAL.get(name, each) if real else each for name, each in found.items()}
    return {name: each for name, each in chosen.items() if each}


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
    deck: Deck,
    dice: random.Random,
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
        wanted = deck.draw()
        patience = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < patience:
            for pid in dice.sample(pids := targets(spared).get(wanted, []), len(pids)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    return wanted
            tend()
            time.sleep(LOOK_SECONDS)
        deck.put_back(wanted)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
