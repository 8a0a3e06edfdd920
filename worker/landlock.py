"""Landlock: the kernel lets a process give up the file system, TCP and signals, without root.

Numbers, bits and their order are those of the kernel's `include/uapi/linux/landlock.h`. A kernel
tells by one number, its ABI, which rights it knows: what is handled and not granted is refused.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Calls of so late that they have the same number on every machine."""
TELL_VERSION = 1
PATH_BENEATH = 1

READ_FILE, READ_DIR = 1 << 2, 1 << 3
FILES = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
"""By the ABI that brought the last of them: everything one can do with files and folders, from
running and writing them to moving them elsewhere (2), truncating (3) and driving devices (5)."""
TCP = {4: 0b11}
"""Listening and connecting."""
SCOPES = {6: 0b11}
"""Abstract unix sockets, and signals to processes outside."""
NEWEST = 7
"""The last ABI whose rights are known here: 7 brought none, and later ones may well be there."""


@dataclass(frozen=True)
class Rights:
    """What is taken away, as three masks."""

    files: int
    tcp: int
    scopes: int

    @classmethod
    def of(cls, abi: int) -> Rights:
        return cls(_latest(FILES, abi), _latest(TCP, abi), _latest(SCOPES, abi))

    def packed(self) -> bytes:
        """As the kernel reads it: one that does not know the last fields wants them zero."""
        return struct.pack("=QQQ", self.files, self.tcp, self.scopes)

    def told(self) -> list[str]:
        """For people: what a process that gave it up cannot do."""
        said = {
            "open files": self.files,
            "truncate files": self.files >> 14,
            "drive devices": self.files >> 15,
            "listen or connect by TCP": self.tcp,
            "reach abstract unix sockets or signal other processes": self.scopes,
        }
        return [what for what, held in said.items() if held]


@dataclass(frozen=True)
class Landlock:
    """What this kernel offers."""

    abi: int
    """The newest ABI known here that works; 0: none."""
    said: int = 0
    """The ABI that the kernel claims."""
    why_not: str = ""
    """The kernel's error where there is none."""

    @property
    def rights(self) -> Rights:
        return Rights.of(self.abi)


def find_landlock() -> Landlock:
    """Ask the kernel, and take its word only as far as it can be had."""
    if not sys.platform.startswith("linux"):
        return Landlock(0, why_not="ENOSYS")
    return newest_that_works(_call(CREATE_RULESET, None, 0, TELL_VERSION), _try_rights)


def newest_that_works(said: int, attempt: Callable[[Rights], int]) -> Landlock:
    """The newest ABI up to `said`, below zero an error, whose rights can be given up.

    `attempt` returns an error below zero. Some kernels with parts of later ones claim an ABI and
    lack rights of it: the next older is tried then.
    """
    answer = said
    for abi in range(min(said, NEWEST), 0, -1):
        if (answer := attempt(Rights.of(abi))) >= 0:
            return Landlock(abi, said)
    return Landlock(0, max(said, 0), why_not=errno.errorcode.get(-answer, str(-answer)))


def keep_only_reading(abi: int, *, files: Iterable[Path], folders: Iterable[Path]) -> None:
    """Give up all that this ABI can take, but reading these files and what lies in these folders.

    For the calling thread and its descendants, for good. `PR_SET_NO_NEW_PRIVS` must have been set.

    Raises:
        OSError: the kernel refuses, or a file or folder is not there.
    """
    ruleset = _checked(_create(Rights.of(abi)), "landlock_create_ruleset")
    try:
        for file in files:
            _grant(ruleset, file, READ_FILE)
        for folder in folders:
            _grant(ruleset, folder, READ_FILE | READ_DIR)
        _checked(_call(RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _try_rights(rights: Rights) -> int:
    ruleset = _create(rights)
    if ruleset >= 0:
        os.close(ruleset)
    return ruleset


def _create(rights: Rights) -> int:
    attributes = rights.packed()
    return _call(CREATE_RULESET, attributes, len(attributes), 0)


def _grant(ruleset: int, place: Path, rights: int) -> None:
    opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, opened)
        _checked(_call(ADD_RULE, ruleset, PATH_BENEATH, rule, 0), "landlock_add_rule")
    finally:
        os.close(opened)


def _latest(masks: dict[int, int], abi: int) -> int:
    return masks[max(known)] if (known := [each for each in masks if each <= abi]) else 0


def _call(number: int, *arguments: int | bytes | None) -> int:
    """The call's result, or its error's number below zero."""
    libc = ctypes.CDLL(None, use_errno=True)
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    answer = int(libc.syscall(ctypes.c_long(number), *passed))
    return answer if answer >= 0 else -ctypes.get_errno()


def _checked(answer: int, call: str) -> int:
    if answer < 0:
        raise OSError(-answer, f"{call} failed: {os.strerror(-answer)}")
    return answer
