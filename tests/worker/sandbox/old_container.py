"""A process as in a container whose runtime has not heard of Landlock."""

from __future__ import annotations

import ctypes
import struct

from worker import kernel_filter
from worker.landlock import CREATE_RULESET
from worker.sandbox import give_up_new_privileges

ALLOW, REFUSE_EPERM = 0x7FFF0000, 0x00050001


def forbid() -> None:
    """From here on this process and its children are refused Landlock with EPERM."""
    give_up_new_privileges()
    program = b"".join(
        struct.pack("HBBI", *line)
        for line in (
            (kernel_filter.LOAD, 0, 0, kernel_filter.NUMBER),
            (kernel_filter.EQUAL, 0, 1, CREATE_RULESET),
            (kernel_filter.RETURN, 0, 0, REFUSE_EPERM),
            (kernel_filter.RETURN, 0, 0, ALLOW),
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    mode = kernel_filter.MODE_FILTER
    assert libc.prctl(kernel_filter.PR_SET_SECCOMP, mode, ctypes.c_char_p(header), 0, 0) == 0
