"""`python -m tests.fuzz`: damaged files until there are enough, or ten minutes are over."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from tests.running_tally import State

from .run import BATCH, Run
from .tally import Tally

SLICE_SECONDS = 560.0
TOLD_EVERY_SECONDS = 60.0


def main() -> int:
    arguments = _arguments()
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    arguments.out.mkdir(exist_ok=True)
    state, name = State(arguments.out / "state.json", Tally), f"seed-{arguments.seed}"
    tally = state.read(name)
    wanted = {"flips": arguments.flips, "mutants": arguments.mutants}
    with Run(arguments.seed, tally) as run:
        told = time.monotonic()
        while (kind := _next(tally, wanted)) and time.monotonic() - began < SLICE_SECONDS:
            first = tally.done[kind]
            run.stretch(kind, first, min(first + BATCH, wanted[kind]))
            state.write(name, tally)
            if time.monotonic() - told > TOLD_EVERY_SECONDS:
                told = time.monotonic()
                _say(f"{tally.done['flips']:,} flips, {tally.done['mutants']:,} mutants")
    _say(tally.told())
    for what, numbers in tally.examples.items():
        _say(f"  {what}: {numbers}")
    if kind:
        _say("The slice is over; the same command goes on from here.")
    return 1 if tally.violations else 0


def _next(tally: Tally, wanted: dict[str, int]) -> str | None:
    """The kind that is further from its goal, so that a short run has seen both."""
    left = {kind: 1 - tally.done[kind] / number for kind, number in wanted.items() if number}
    kind = max(left, key=lambda each: left[each], default=None)
    return kind if kind and left[kind] > 0 else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--flips", type=int, default=100_000)
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"))
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
