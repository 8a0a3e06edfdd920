"""The processes of one running service, found from its supervisor downwards."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

API = "app.cli api"
PARENT = "worker run"
CHILD = "worker.child"
ZYGOTE = "worker.zygote"


def descendants(pid: int) -> list[int]:
    """Children and theirs, of every thread: nothing that this service did not start."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in listed.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def find(supervisor: int, what: str, seconds: float = 30) -> int:
    """The process id of one part of the service, once it is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for pid in descendants(supervisor):
            if f"-m {what} " in command(pid) and is_running(pid):
                return pid
        time.sleep(0.02)
    raise AssertionError(f"{what} is not running")


def kill(supervisor: int, what: str) -> int:
    """kill -9; the process id that is no more."""
    pid = find(supervisor, what)
    os.kill(pid, signal.SIGKILL)
    return pid


def gone(pids: list[int], seconds: float = 15) -> bool:
    """Whether all of these end in time."""
    deadline = time.monotonic() + seconds
    while any(is_running(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
