"""`python -m tests.fuzz.forking TREATMENT [ARGUMENT ...]`: preloaded, it forks children for files.

As the intake zygote does, but a child treats several files one after another: where a fork costs
more than a check does, that makes the fuzz several times as fast. A line of JSON in is a list of
files; lines out are the child's process id, what it says of each file, and how it ended.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.parent_death import die_with_parent
from worker.intake.limits import GIB
from worker.zygote_process import ENVIRONMENT

HANG_SECONDS = 10.0
"""Of one file: longer is a failure."""
START_SECONDS = 120.0
Treatment = Callable[..., Any]


class Forks:
    """The parent's end. It lives through all that happens to a child."""

    def __init__(self, treatment: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.forking", treatment, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ENVIRONMENT},
        )
        self._lines = _Lines(self._process.stdout)
        assert self._lines.next(START_SECONDS) == {"ready": True}

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def treat(self, files: list[list[str]]) -> list[Any]:
        """What is said of each file in turn; of one at which the child ended, how it did."""
        found: list[Any] = []
        while len(found) < len(files):
            found += self._fork(files[len(found) :])
        return found

    def _fork(self, files: list[list[str]]) -> list[Any]:
        """One child. If it dies or hangs, that is the last outcome."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(files).encode() + b"\n")
        self._process.stdin.flush()
        child, hung, found = 0, False, []
        while True:
            message = self._lines.next(HANG_SECONDS)
            if message is None:
                assert self.is_alive
                os.kill(child, signal.SIGKILL)
                hung = True
            elif "pid" in message:
                child = message["pid"]
            elif "outcome" in message:
                found.append(message["outcome"])
            else:
                break
        if len(found) < len(files):
            found.append({"died": "hang" if hung else message["ended"]})
        return found


class _Lines:
    """Lines of JSON from a pipe, each waited for so long and no longer."""

    def __init__(self, pipe: Any) -> None:
        self._descriptor = pipe.fileno()
        self._pending = bytearray()

    def next(self, seconds: float) -> dict[str, Any] | None:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._pending:
            left = max(deadline - time.monotonic(), 0)
            if not select.select([self._descriptor], [], [], left)[0]:
                return None
            data = os.read(self._descriptor, 2**20)
            assert data, "the forking process is gone"
            self._pending += data
        line, _, rest = self._pending.partition(b"\n")
        self._pending = rest
        return dict(json.loads(line))


def main() -> None:
    module = importlib.import_module(f"tests.fuzz.{sys.argv[1]}")
    if len(sys.argv) > 2:
        module.prepare(*sys.argv[2:])
    die_with_parent(signal.SIGKILL, parent=os.getppid())
    gc.freeze()
    _say({"ready": True})
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            _be_child(module.treat, json.loads(line))
        _, status = os.waitpid(pid, 0)
        _say({"ended": os.waitstatus_to_exitcode(status)})


def _be_child(treat: Treatment, files: list[list[str]]) -> None:
    """Never returns. The limits of memory are those of a check."""
    try:
        _say({"pid": os.getpid()})
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + GIB, used + GIB))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for file in files:
            _say({"outcome": treat(*file)})
    finally:
        os._exit(0)


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
