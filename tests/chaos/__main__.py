"""`python -m tests.chaos`: rounds of kills until there are enough, or ten minutes are over."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.running_tally import State

from .modes import ROTATION, missing_programs
from .round import Outcome, Plan, play
from .tally import Tally

ROUND_KILLS = {False: 40, True: 10}
"""Of one round, with the stub and with real mappings."""
SLICE_SECONDS, JUDGING_SECONDS = 570.0, 150.0
FIRST_ROUND_SECONDS = 150.0


def main() -> int:
    arguments = _arguments()
    began = time.monotonic()
    # Whoever ends a slice early gets no half-alive servers.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    out: Path = arguments.out.absolute()  # processes may have folders of their own
    out.mkdir(exist_ok=True)
    state, real, wanted = State(out / "state.json", Tally), arguments.real > 0, _wanted(arguments)
    name = f"{'real' if real else 'stub'}-seed-{arguments.seed}"
    tally = state.read(name)
    while (left := wanted - tally.kills.total()) > 0 and not tally.violations:
        if time.monotonic() - began + 1.2 * _round_seconds(tally.longest_seconds) > SLICE_SECONDS:
            break
        folder = out / f"{name}-round-{tally.rounds}"
        kills, last = min(left, ROUND_KILLS[real]), began + SLICE_SECONDS - JUDGING_SECONDS
        outcome = _play(Plan(folder, f"{name}-{tally.rounds}", kills, _mode(tally), real), last)
        tally.add(outcome)
        state.write(name, tally)
        _say(tally.told(wanted))
        _tell_violations(outcome, folder)
    return _end(tally.told(wanted), bool(tally.violations), left > 0)


def _mode(tally: Tally) -> str:
    mode = ROTATION[tally.rounds % len(ROTATION)]
    if lacking := missing_programs(mode):
        raise SystemExit(f"Install {' and '.join(lacking)}: the distributed mode is killed too.")
    return mode


def _play(plan: Plan, last_kill: float) -> Outcome:
    """One round. Of a sound one only the history is kept; of any other everything is."""
    folder = plan.folder
    shutil.rmtree(folder, ignore_errors=True)  # of a round that was interrupted
    outcome = play(plan, last_kill=last_kill)
    if not outcome.violations:
        shutil.copyfile(folder / "history.jsonl", folder.with_suffix(".jsonl"))
        shutil.rmtree(folder)
    return outcome


def _tell_violations(outcome: Outcome, folder: Path) -> None:
    for broken in outcome.violations:
        _say(f"VIOLATION: {broken.kind}: {broken.subject}: {broken.detail}")
    if outcome.violations:
        _say(f"History, logs and files of the round: {folder}")


def _end(told: str, broken: bool, more: bool) -> int:
    if broken:
        _say(f"Broken promises stop the count: {told}")
    elif more:
        _say("The slice is over; the same command goes on from here.")
    else:
        _say(f"Done: {told}")
    return 1 if broken else 0


def _round_seconds(longest: float) -> float:
    return longest or FIRST_ROUND_SECONDS


def _wanted(arguments: argparse.Namespace) -> int:
    return int(arguments.real or arguments.kills)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--real", type=int, default=0, help="so many kills of real mappings")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--out", type=Path, default=Path("chaos-out"))
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
