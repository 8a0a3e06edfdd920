"""What a worker's processes take, read while they live: resident memory and processor time."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

LOOK_SECONDS = 0.1
ROLES = {"worker": "parent", "worker.zygote": "zygote", "worker.child": "child"}
"""By the module that a process runs; a check is forked from the zygote, and looks like it."""


TICKS = os.sysconf("SC_CLK_TCK")


class WorkerProcesses:
    """Watches those among our descendants. Peaks are in MiB."""

    def __init__(self) -> None:
        self.peaks: dict[tuple[str, int], int] = {}
        self.processor: dict[tuple[str, int], float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def figures(self) -> dict[str, Any]:
        """Of each role the largest process; the sum is of all roles, whenever each was largest."""
        roles: dict[str, int] = {}
        for (role, _), kilobytes in self.peaks.items():
            roles[role] = max(roles.get(role, 0), kilobytes // 1024)
        return {"peak_mb": max(roles.values()), "sum_mb": sum(roles.values()), "roles_mb": roles}

    def processor_seconds(self) -> dict[str, float]:
        """Of each role, by all of its processes until now."""
        roles: dict[str, float] = {}
        for (role, _), seconds in list(self.processor.items()):
            roles[role] = roles.get(role, 0.0) + seconds
        return roles

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            for pid, parent in _descendants():
                role = _role(pid, parent)
                if role is not None:
                    self.peaks[role, pid] = max(self.peaks.get((role, pid), 0), _peak(pid))
                    spent = self.processor.get((role, pid), 0.0)
                    self.processor[role, pid] = max(spent, _processor(pid))


def _descendants() -> list[tuple[int, int]]:
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (status := _read(path / "stat")):
            parents[int(path.name)] = int(status.rpartition(")")[2].split()[1])
    found, known = [], {os.getpid()}
    for pid, parent in sorted(parents.items()):  # ids rise from parent to child
        if parent in known:
            known.add(pid)
            found.append((pid, parent))
    return found


def _role(pid: int, parent: int) -> str | None:
    role = _ran(pid)
    return "check" if role == "zygote" and _ran(parent) == "zygote" else role


def _ran(pid: int) -> str | None:
    words = _read(Path(f"/proc/{pid}/cmdline")).split("\0")
    return next((ROLES[word] for word in words if word in ROLES), None)


def _peak(pid: int) -> int:
    told = re.search(r"VmHWM:\s+(\d+)", _read(Path(f"/proc/{pid}/status")))
    return int(told[1]) if told else 0


def _processor(pid: int) -> float:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
