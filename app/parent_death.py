"""Dying with the parent process, however it dies (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int = signal.SIGTERM, *, parent: int | None = None) -> None:
    """Ask the kernel to send this process a signal when its parent ends.

    `parent` is the pid that should still be the parent: one that died before this call is
    noticed here. Elsewhere than on Linux this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal_number)
