"""The parent's end of the intake zygote: start it, hand it a file, judge how the check ended."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.problems import InternalFault, JobTimeout, Problem, UnreadableFile
from worker.intake.findings import located
from worker.intake.folder import CanonicalFolder
from worker.intake.frames import FAULT, PROBLEM
from worker.intake.limits import MIB, Limits
from worker.intake.receiver import BrokenStream, Receiver
from worker.outcomes import Stopped, WorkerDied

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
EXIT_SECONDS = 10.0
PASSED_ON = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")
ENVIRONMENT = {
    # One thread, so that fork is safe; no plugins, so that no filter is loaded from a folder.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "HDF5_PLUGIN_PATH": "::",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class CheckOrder:
    """One file to check, and where its canonical query goes."""

    path: Path
    folder: Path
    layer: str | None
    input: str
    seconds: float
    limits: Limits

    def message(self) -> bytes:
        order = {
            "path": str(self.path),
            "layer": self.layer,
            "input": self.input,
            "limits": self.limits.as_dict(),
        }
        return json.dumps({"check": order}).encode()


class ZygoteProcess:
    """The zygote as the parent holds it. Started by the main thread, used by one check at a time.

    The kernel's parent-death signal follows the thread that started a process; a thread that
    ends would take the zygote with it.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        self.stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker.zygote", "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=kept | ENVIRONMENT,
                stdin=subprocess.DEVNULL,
            )
        self._control = ours

    def stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def check(
        self,
        order: CheckOrder,
        *,
        stopped: Callable[[], bool] = lambda: False,
        report: Callable[[float], None] = lambda fraction: None,
    ) -> dict[str, Any]:
        """Check one file in a process of its own; returns the inspection.

        Raises:
            Problem: the file is refused, with the reason.
            Stopped: `stopped` said so.
            WorkerDied: the zygote or the check was killed; neither says anything of the file.
        """
        if self._control is None:
            raise WorkerDied("the zygote is not running")
        read_end, write_end = os.pipe()
        try:
            with suppress(OSError):
                _widen(write_end)
            try:
                socket.send_fds(self._control, [order.message()], [write_end])
            except OSError as error:
                raise WorkerDied("the zygote is gone") from error
            finally:
                os.close(write_end)
            return _Check(self._control, read_end, order).run(stopped, report)
        except WorkerDied:
            self._kill()  # whatever is wrong with it, a new one is sound
            raise
        finally:
            os.close(read_end)

    def _kill(self) -> None:
        # Reaped by the main thread, which starts the next one.
        if self._process is not None:
            self._process.kill()


def _widen(pipe: int) -> None:
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, MIB)


class _Check:
    """One check from its order to its judgement."""

    def __init__(self, control: socket.socket, pipe: int, order: CheckOrder) -> None:
        self.control, self.pipe, self.order = control, pipe, order
        self.folder = CanonicalFolder(order.folder, quota=order.limits.output_bytes)
        self.receiver = Receiver(self.folder)

    def run(self, stopped: Callable[[], bool], report: Callable[[float], None]) -> dict[str, Any]:
        try:
            pid = self._begin()
            try:
                self._receive(stopped, report)
            except BaseException as error:
                self._end(pid, kill=True)
                if isinstance(error, BrokenStream):
                    log.warning("check %s wrote a broken stream: %s", pid, error)
                    raise _crashes() from error
                raise
            return self._judge(self._end(pid, kill=False))
        finally:
            self.folder.close()

    def _begin(self) -> int:
        # Skips what an earlier check, given up for lack of an answer, was told too late.
        while "pid" not in (message := self._message(EXIT_SECONDS)):
            continue
        return int(message["pid"])

    def _receive(self, stopped: Callable[[], bool], report: Callable[[float], None]) -> None:
        deadline = time.monotonic() + self.order.seconds
        while True:
            if stopped():
                raise Stopped
            if time.monotonic() > deadline:
                raise _too_slow(self.order.seconds)
            if not select.select([self.pipe], [], [], TICK_SECONDS)[0]:
                continue
            data = os.read(self.pipe, MIB)
            if not data:
                return
            self.receiver.feed(data)
            report(self.receiver.progress)

    def _end(self, pid: int, *, kill: bool) -> int:
        """Wait until the child is gone; its exit code, negative for a signal."""
        try:
            if kill:
                self.control.send(json.dumps({"kill": pid}).encode())
            while (message := self._message(EXIT_SECONDS)).get("exited") != pid:
                continue
        except OSError as error:
            raise WorkerDied("the zygote is gone") from error
        return int(message["status"])

    def _message(self, seconds: float) -> dict[str, Any]:
        if not select.select([self.control], [], [], seconds)[0]:
            raise WorkerDied("the zygote does not answer")
        try:
            message = self.control.recv(MIB)
        except OSError as error:
            raise WorkerDied("the zygote is gone") from error
        if not message:
            raise WorkerDied("the zygote is gone")
        return dict(json.loads(message))

    def _judge(self, status: int) -> dict[str, Any]:
        if self.receiver.outcome is None:
            raise _death(status, self.order.seconds)
        kind, outcome = self.receiver.outcome
        if kind == PROBLEM:
            raise Problem.from_dict(outcome)
        if kind == FAULT:
            log.error("a check failed:\n%s", outcome.get("traceback"))
            raise InternalFault("The check of this file failed.", fix="Upload the file again.")
        try:
            self.folder.finish(outcome)
        except (ValueError, KeyError, TypeError) as error:
            log.exception("a check handed on files that do not fit its report")
            raise _crashes() from error
        return outcome


def _death(status: int, seconds: float) -> Exception:
    if status == -signal.SIGXCPU:
        return _too_slow(seconds)
    if status == -signal.SIGKILL:
        # The HDF5 library does not do this; an operator or the kernel short of memory does.
        return WorkerDied("the check was killed from outside")
    return _crashes()


def _crashes() -> Problem:
    return located(
        UnreadableFile,
        "/",
        "The file crashes the HDF5 reader: its structure is damaged.",
        "Check that it opens with anndata.read_h5ad where it was made, write it again with "
        "write_h5ad, and upload that.",
    )


def _too_slow(seconds: float) -> Problem:
    return located(
        JobTimeout,
        "/",
        f"Checking the file took longer than the {seconds:,.0f} s that are allowed.",
        "Store the counts as a CSR matrix in chunks of ordinary size (write_h5ad does so), or "
        "upload the cells in several files.",
    )
