"""What a reader of foreign files gives up before it opens one: descriptors, privileges, other
files, the network, new processes, and memory, time and written bytes beyond its limits.

Four layers of the kernel's, none of which needs root: its limits on resources, no new privileges,
Landlock (`worker/landlock.py`) and a filter of calls (`worker/kernel_filter.py`). Where there is no
Landlock, bubblewrap has put the process where there is nothing to read (`worker/bubblewrap.py`).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from worker.code_folders import code_folders
from worker.intake.limits import MIB, Limits
from worker.kernel_filter import refuse_actions
from worker.landlock import keep_only_reading

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
CAPABILITY_VERSION = 0x20080522
READ_ANY_FILE = 1 << 2
"""CAP_DAC_READ_SEARCH: a file that only root may read is one that root may import."""
LAST_WORDS_BYTES = 64 * MIB
"""Kept back, so that a check that ran out of memory can still say so."""
OPEN_FILES = 32
PIPE = 3


def place_of(file: int) -> Path:
    """Under which name the process in the sandbox opens a file that it was given, from 0 on.

    Of the file's own name and folder it knows nothing, and needs nothing.
    """
    return Path(f"/proc/self/fd/{PIPE + 1 + file}")


def keep_only(pipe: int, files: Sequence[int] = ()) -> int:
    """Close every descriptor but these; returns the pipe's new one. Files go to `place_of`."""
    null = os.open(os.devnull, os.O_RDWR)
    kept = (null, null, null, pipe, *files)
    # Out of the way first, before each gets its place; no higher, as a shell allows only 1,024.
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD, len(kept)) for each in kept]
    for place, descriptor in enumerate(moved):
        os.dup2(descriptor, place)
    os.closerange(len(moved), os.sysconf("SC_OPEN_MAX"))
    return PIPE


def enter_sandbox(limits: Limits, *, landlock_abi: int, reads: Sequence[Path]) -> bool:
    """Give up everything a reader does not need; returns whether the kernel filters its calls.

    Only for a process that is there for some files, `reads`: there is no way back.
    `landlock_abi` is what `find_landlock` found; with 0 it may read what it sees.

    Raises:
        OSError, RuntimeError: the kernel refuses what it offered. Nothing foreign may be opened.
    """
    if sys.platform.startswith("linux") and len([*Path("/proc/self/task").iterdir()]) > 1:
        raise RuntimeError("a process with threads cannot enter the sandbox as a whole")
    memory = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _give_up_privileges()
    if landlock_abi:
        keep_only_reading(landlock_abi, files=reads, folders=code_folders())
    _limit(limits, memory=memory + limits.memory_bytes, files=len(reads) + OPEN_FILES)
    return refuse_actions()


def allow_last_words() -> None:
    """After running out of memory: a little more, to report it."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def give_up_new_privileges() -> None:
    """Programs that run with more rights than their caller do not, from here on."""
    _libc_call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def keep_memory_private() -> None:
    """Other processes of this user, those that were forked from here too, cannot look into it.

    Landlock sees to that by itself.
    """
    _libc_call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)


def _limit(limits: Limits, *, memory: int, files: int) -> None:
    for what, soft, hard in (
        (resource.RLIMIT_AS, memory, memory + LAST_WORDS_BYTES),
        (resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 5),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_NOFILE, files, files),
        (resource.RLIMIT_NPROC, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(what, (soft, hard))


def _give_up_privileges() -> None:
    """Root's too: only its right to read stays."""
    if not sys.platform.startswith("linux"):
        return
    give_up_new_privileges()
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    held = ctypes.create_string_buffer(24)
    _libc_call("capget", ctypes.c_char_p(header), held)
    permitted = struct.unpack_from("=III", held.raw)[1] & READ_ANY_FILE
    wanted = struct.pack("=6I", permitted, permitted, 0, 0, 0, 0)
    _libc_call("capset", ctypes.c_char_p(header), ctypes.c_char_p(wanted))


def _libc_call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name} failed")
