"""A filter in the kernel that refuses a reader of foreign files whatever only code would ask for.

Programs, sockets, new processes, signals to others and changes to the file system: a process that
has read its libraries needs none of them. The filter (seccomp) needs no root and cannot be taken
off again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass

PR_SET_SECCOMP, MODE_FILTER = 22, 2
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE = 0, 4
"""Where the kernel keeps the call's number and the machine's in what a filter may look at."""
NOT_PERMITTED, NO_SUCH_CALL = 1, 38

CLONE_THREAD = 0x10000
OTHER_NUMBERS = 0x40000000
"""From here on x86_64 kernels may offer the same calls once more, for 32-bit pointers (x32)."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Machine:
    """The kernel's number for a kind of machine, and its numbers for calls."""

    audit: int
    refused: tuple[int, ...]
    clone: int
    opening: tuple[tuple[int, int], ...]
    """Calls that open files, each with the place of the argument that says what for."""
    to_itself: tuple[int, ...]
    """tgkill and prlimit64: abort() and the last words after running out of memory need them, and
    the first argument says which process is meant."""


EVERYWHERE = (
    *(424, 434, 438),  # pidfd_send_signal, pidfd_open, pidfd_getfd
    *(425, 452, 463, 466, 469),  # io_uring, fchmodat2, setxattrat, removexattrat, file_setattr
)
"""Calls of so late that they have the same number on every machine."""

MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        (
            *(41, 42, 44, 46, 49, 53),  # socket, connect, sendto, sendmsg, bind, socketpair
            *(57, 58, 59, 322),  # fork, vfork, execve, execveat
            *(62, 101, 200, 310, 311),  # kill, ptrace, tkill, process_vm_readv and _writev
            *(129, 297),  # rt_sigqueueinfo, rt_tgsigqueueinfo
            *(76, 77, 82, 83, 84, 85, 86, 87, 88, 133),  # truncate, rename, link, unlink, mknod ...
            *(258, 259, 263, 264, 265, 266, 316),  # the same, relative to a folder
            *(90, 91, 92, 93, 94, 260, 268),  # chmod, chown and their kin
            *(132, 235, 261, 280),  # utime, utimes, futimesat, utimensat
            *(188, 189, 190, 197, 198, 199),  # setxattr, removexattr
            *(165, 272, 308, 321, 323),  # mount, unshare, setns, bpf, userfaultfd
            304,  # open_by_handle_at
        ),
        clone=56,
        opening=((257, 2), (2, 1)),
        to_itself=(234, 302),
    ),
    "aarch64": Machine(
        0xC00000B7,
        (
            *(198, 199, 200, 203, 206, 211),
            *(221, 281),
            *(117, 129, 130, 270, 271),
            *(138, 240),
            *(33, 34, 35, 36, 37, 38, 45, 46, 276),
            *(52, 53, 54, 55),
            *(88,),
            *(5, 6, 7, 14, 15, 16),
            *(40, 97, 268, 280, 282),
            265,
        ),
        clone=220,
        opening=((56, 2),),
        to_itself=(131, 261),
    ),
}
CLONE3, OPENAT2 = 435, 437
"""Their arguments lie in memory, where a filter cannot look; libraries fall back to the others."""


def refuse_actions() -> bool:
    """Put the filter on this process, for good; False where this kernel or machine has none.

    `PR_SET_NO_NEW_PRIVS` must have been set before.
    """
    known = MACHINES.get(platform.machine())
    if known is None or not sys.platform.startswith("linux"):
        return False
    program = _program(known, os.getpid())
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.c_char_p(header), 0, 0) == 0)


def offers_filter() -> bool:
    """Whether `refuse_actions` can do here what it says; takes nothing off.

    The kernel that has filters looks for the program, and does not find it at 0 (EFAULT).
    """
    if platform.machine() not in MACHINES or not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_SECCOMP, MODE_FILTER, None, 0, 0)
    return ctypes.get_errno() == errno.EFAULT


def _program(machine: Machine, process: int) -> bytes:
    """Instructions of (code, where to jump if so, where if not, operand), 8 bytes each."""
    lines = [_line(LOAD, ARCHITECTURE), _line(EQUAL, machine.audit, yes=1)]
    lines += [_refuse(NOT_PERMITTED), _line(LOAD, NUMBER)]
    lines += [_line(AT_LEAST, OTHER_NUMBERS, no=1), _refuse(NO_SUCH_CALL)]
    for number in (*machine.refused, *EVERYWHERE):
        lines += [_line(EQUAL, number, no=1), _refuse(NOT_PERMITTED)]
    for number in (CLONE3, OPENAT2):
        lines += [_line(EQUAL, number, no=1), _refuse(NO_SUCH_CALL)]
    lines += _with_bits(machine.clone, argument=0, bits=CLONE_THREAD, refuse_if=False)
    for number, argument in machine.opening:
        lines += _with_bits(number, argument=argument, bits=WRITING, refuse_if=True)
    for number in machine.to_itself:
        lines += _to_itself(number, process)
    lines.append(_line(RETURN, ALLOW))
    return b"".join(lines)


def _with_bits(number: int, *, argument: int, bits: int, refuse_if: bool) -> list[bytes]:
    """Refuse a call by whether any of these bits is set in an argument (its lower half)."""
    judged = (0, 1) if refuse_if else (1, 0)
    return [
        _line(EQUAL, number, no=4),
        _line(LOAD, 16 + 8 * argument),
        _line(ANY_BIT, bits, yes=judged[0], no=judged[1]),
        _refuse(NOT_PERMITTED),
        _line(RETURN, ALLOW),
    ]


def _to_itself(number: int, process: int) -> list[bytes]:
    """Refuse a call whose first argument is another process; 0 is the caller."""
    return [
        _line(EQUAL, number, no=5),
        _line(LOAD, 16),
        _line(EQUAL, 0, yes=2),
        _line(EQUAL, process, yes=1),
        _refuse(NOT_PERMITTED),
        _line(RETURN, ALLOW),
    ]


def _line(code: int, operand: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, operand)


def _refuse(error: int) -> bytes:
    return _line(RETURN, REFUSE | error)
