"""A process of the worker as the parent holds it: started, heard to be ready, killed."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

START_SECONDS = 120.0
"""Generous: a machine that is busy or has cold disks reads hundreds of megabytes of libraries."""


class HeldProcess(ABC):
    """Started and stopped by the main thread, used by one job at a time.

    The kernel's parent-death signal follows the thread that started a process; a thread that
    ends would take the process with it.
    """

    def __init__(
        self, module: str, arguments: Sequence[str] = (), *, kind: socket.SocketKind
    ) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._kind = kind
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ready = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """Whether it has said that it can work. No job is given to one that has not."""
        self._ready = self.is_alive() and (self._ready or self._hears_ready(0.0))
        return self._ready

    def wait_until_ready(self, seconds: float = START_SECONDS) -> bool:
        deadline = time.monotonic() + seconds
        while self.is_alive() and not self._ready and time.monotonic() < deadline:
            self._ready = self._hears_ready(0.1)
        return self._ready and self.is_alive()

    def start(self) -> None:
        self.stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, self._kind)
        with theirs:
            self._process = subprocess.Popen(
                [*self._command, "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=dict(self._environment()),
                stdin=subprocess.DEVNULL,
            )
        self._socket = ours

    def stop(self) -> None:
        self._ready = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End it from a job's thread; the main thread clears up and starts the next one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @abstractmethod
    def _environment(self) -> Mapping[str, str]:
        """No secrets: what the process needs to know comes with its orders."""

    @abstractmethod
    def _hears_ready(self, seconds: float) -> bool:
        """Whether its first message, which says that it is ready, is there or comes in time."""
