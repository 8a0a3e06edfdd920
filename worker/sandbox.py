"""What a check gives up before it opens an upload: descriptors, new privileges, and memory, time
and written bytes beyond its limits. It may still read what the worker's user may read, and the
network is not closed to it: the kernel's resource limits are no virtual machine.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

from worker.intake.limits import MIB, Limits

PR_SET_NO_NEW_PRIVS = 38
LAST_WORDS_BYTES = 64 * MIB
"""Kept back, so that a check that ran out of memory can still say so."""
OPEN_FILES = 32


def enter_sandbox(pipe: int, limits: Limits) -> int:
    """Give up everything a check does not need; returns the pipe's new descriptor.

    Only for a process that was forked for one file: there is no way back.
    """
    pipe = _keep_only(pipe)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    memory = used + limits.memory_bytes
    for what, soft, hard in (
        (resource.RLIMIT_AS, memory, memory + LAST_WORDS_BYTES),
        (resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 5),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(what, (soft, hard))
    return pipe


def allow_last_words() -> None:
    """After running out of memory: a little more, to report it."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _keep_only(pipe: int) -> int:
    """Point 0, 1 and 2 at /dev/null, the pipe at 3, and close everything else."""
    null = os.open(os.devnull, os.O_RDWR)
    moved = os.dup(pipe) if pipe < 3 else pipe
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    if moved != 3:
        os.dup2(moved, 3)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    return 3


def _prctl(option: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
