"""A stretch of damaged files: proved, replayed in the real zygote, mapped, and read unproved."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Self

from app.problems import Problem
from worker.checking import CheckOrder
from worker.outcomes import WorkerDied
from worker.zygote_process import ZygoteProcess

from .forking import HANG_SECONDS, Forks
from .mapper import Mapper
from .proof import LIMITS, describe
from .tally import Tally

BATCH = 64
IN_ZYGOTE, IN_CONTROL = 25, 50
"""Every so manieth file is also checked as the service does, and read without a proof."""


class Run:
    """The processes and folders of a fuzz. Everything is told to the tally."""

    def __init__(self, seed: int, tally: Tally, *, control_every: int = IN_CONTROL) -> None:
        self.tally, self._control_every = tally, control_every
        self._made = tempfile.TemporaryDirectory(prefix="cellgraft-fuzz-")
        self.folder = Path(self._made.name)
        self.mapper = Mapper(self.folder / "reference")
        self.proof, self.control = Forks("proof"), Forks("control")
        self.writing = Forks("writing", str(self.folder / "bases"), str(seed))
        self.zygote = ZygoteProcess()
        self.zygote.start()
        assert self.zygote.wait_until_ready()
        self._zygote_pid = self.zygote.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.writing, self.proof, self.control, self.mapper):
            each.close()
        self.zygote.stop()
        self._made.cleanup()

    def stretch(self, kind: str, first: int, last: int) -> None:
        """Files `first` to `last` of a kind, a batch long."""
        began = time.monotonic()
        numbers = range(first, last)
        paths = [self.folder / f"{at}.h5ad" for at in range(len(numbers))]
        orders = [[kind, str(n), str(p)] for n, p in zip(numbers, paths, strict=True)]
        for number, made in zip(numbers, self.writing.treat(orders), strict=True):
            if "died" in made:  # the library may also die of what it was made to write
                self.tally.note(kind, number, f"died while it was made: {made['died']}")
        treated = [[str(path), str(_canonical(path))] for path in paths]
        for number, path, found in zip(numbers, paths, self.proof.treat(treated), strict=True):
            self._judge(kind, number, path, found)
        self._uncontrolled(kind, dict(zip(numbers, treated, strict=True)))
        self.tally.done[kind] += len(numbers)
        self.tally.seconds += time.monotonic() - began

    def _judge(self, kind: str, number: int, path: Path, found: dict[str, Any]) -> None:
        self.tally.judged(kind, found)
        if "died" in found:
            self.tally.note(kind, number, f"died: {found['died']}")
        if "fault" in found:
            self.tally.violate(kind, number, "fault: " + found["fault"].strip().split("\n")[-1])
        if "accepted" in found:
            self._map(kind, number, _canonical(path), found["accepted"])
        if "died" in found or number % IN_ZYGOTE == 0:
            self._replay(kind, number, path, found)

    def _map(self, kind: str, number: int, canonical: Path, accepted: dict[str, Any]) -> None:
        if accepted["leaks"]:
            self.tally.violate(kind, number, "reads another file")
        became, broken = self.mapper.map(canonical, accepted)
        self.tally.mapped[f"{kind} {became}"] += 1
        if broken:
            self.tally.violate(kind, number, broken)

    def _replay(self, kind: str, number: int, path: Path, found: dict[str, Any]) -> None:
        """As the service would check it; the zygote is a parent, and must live."""
        canonical = self.folder / "replayed"
        order = CheckOrder(path, canonical, {}, HANG_SECONDS, LIMITS)
        try:
            report = self.zygote.check(order)
            how, code = "accepted", ""
        except Problem as problem:
            how, code = "refused", next((each["code"] for each in problem.errors), problem.type)
        except WorkerDied as error:
            how, code = "died", str(error)
        crashes = code == "crashes-reader"
        self.tally.in_zygote[f"{kind} {'crashes-reader' if crashes else how}"] += 1
        if how == "accepted" and "died" in found:
            self._map(kind, number, canonical, describe(canonical, report))
        if how == "died" or self.zygote.pid != self._zygote_pid or not self.zygote.is_alive():
            self.tally.violate(kind, number, f"parent: {code}")
            self.zygote.start()
            self._zygote_pid = self.zygote.pid
        elif code in {"check-too-slow", "internal"}:
            self.tally.violate(kind, number, f"zygote: {code}")
        elif how not in found and "died" not in found:
            self.tally.violate(kind, number, "zygote judges otherwise")

    def _uncontrolled(self, kind: str, treated: dict[int, list[str]]) -> None:
        chosen = [n for n in treated if n % self._control_every == 0]
        for found in self.control.treat([treated[n] for n in chosen]):
            how = f"died: {found['died']}" if "died" in found else next(iter(found))
            self.tally.control[f"{kind} {how}"] += 1


def _canonical(path: Path) -> Path:
    return path.with_suffix(".canonical")
