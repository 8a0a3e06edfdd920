"""A zygote whose check proves nothing: what holds it is the sandbox alone.

`layer` of the request says what the check does: follow every link of the file, try to get out, or
die in a certain way. What it saw comes back as the inspection of its refusal.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from worker import zygote
from worker.intake.check import Request
from worker.intake.findings import located
from worker.intake.frames import Sink
from worker.intake.limits import Limits
from worker.intake.samples import UploadedFile

PTRACE_ATTACH, PTRACE = 16, {"x86_64": 101, "aarch64": 117}


def check(
    files: Sequence[UploadedFile], request: Request, limits: Limits, sink: Sink
) -> dict[str, Any]:
    act, _, target = (request.layer or "").partition(" ")
    problem = located("not-hdf5", "/", "A naive check accepts nothing.")
    problem.inspection = ACTS[act](files[0].path, target)
    raise problem


def follow(path: Path, _target: str = "") -> dict[str, Any]:
    """The content of every dataset that can be reached, whatever leads to it."""
    found: dict[str, Any] = {}
    with h5py.File(path, "r", locking=False) as file:
        for name in file:
            try:
                there = file[name]
                is_array = isinstance(there, h5py.Dataset)
                found[name] = np.atleast_1d(there[()]).tolist() if is_array else sorted(there)
            except (OSError, KeyError, RuntimeError) as error:
                found[name] = f"error: {type(error).__name__}"
    return found


def escape(path: Path, target: str) -> dict[str, Any]:
    """What of all that a taken-over reader might try is refused; `target` is a file elsewhere."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: int) -> None:
        if libc.syscall(number, *arguments) < 0:
            raise OSError(ctypes.get_errno(), "refused")

    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    parent = os.getppid()
    attempts: dict[str, Callable[[], object]] = {
        "read another file": Path(target).read_bytes,
        "list a folder": lambda: [*Path(target).parent.iterdir()],
        "write to the file": lambda: os.open(path, os.O_RDWR),
        "write elsewhere": lambda: Path(target).write_bytes(b"written"),
        "make a file": lambda: Path(target).with_name("made").touch(),
        "make a folder": lambda: Path(target).with_name("folder").mkdir(),
        "remove": lambda: Path(target).unlink(),
        "tcp": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "abstract socket": lambda: socket.socket(socket.AF_UNIX),
        "fork": fork,
        "program": lambda: os.execv("/bin/true", ["true"]),
        "kill the parent": lambda: os.kill(parent, 0),
        "kill everybody": lambda: os.kill(-1, 0),
        "trace the parent": lambda: call(PTRACE[os.uname().machine], PTRACE_ATTACH, parent, 0, 0),
        "memory of the parent": lambda: os.open(f"/proc/{parent}/mem", os.O_RDONLY),
        "environment": lambda: Path("/proc/self/environ").read_bytes(),
        "more memory": lambda: resource.setrlimit(
            resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        ),
        "more files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512)),
        "other user": lambda: os.setuid(65534),
        "root folder": lambda: os.chroot("/"),
    }
    return {what: _outcome(attempt) for what, attempt in attempts.items()}


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except (OSError, ValueError) as error:
        return f"refused: {type(error).__name__}"
    return "done"


def die(_path: Path, how: str) -> dict[str, Any]:
    signal.signal(int(how), signal.SIG_DFL)
    signal.raise_signal(int(how))
    return {}


def break_down(_path: Path, _target: str) -> dict[str, Any]:
    raise RuntimeError("a fault of ours")


def read_wild_memory(_path: Path, _target: str) -> dict[str, Any]:
    ctypes.string_at(1)
    return {}


HELD: list[bytes] = []


def fill(_path: Path, then: str) -> dict[str, Any]:
    """Take all the memory there is, and keep it; then refuse the file, fail, or die."""
    piece = 64 * 2**20
    while piece:
        try:
            HELD.append(b"x" * piece)
        except MemoryError:
            piece //= 2
    if then == "die":
        os.abort()
    if then == "fail":
        raise RuntimeError("a fault of ours")
    return {"held": len(HELD)}


def wait(_path: Path, _target: str) -> dict[str, Any]:
    threading.Event().wait(60)
    return {}


ACTS: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    "follow": follow,
    "escape": escape,
    "die": die,
    "break-down": break_down,
    "read-wild-memory": read_wild_memory,
    "fill": fill,
    "wait": wait,
}

if __name__ == "__main__":
    zygote.main(check)
