"""One check as the parent sees it: the order, the stream that comes back, and how it ended."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.problems import InternalFault, Problem
from worker.intake.findings import located, too_large
from worker.intake.folder import CanonicalFolder
from worker.intake.frames import FAULT, PROBLEM, UNPREPARED
from worker.intake.limits import MIB, Limits
from worker.intake.receiver import BrokenStream, Receiver
from worker.intake.samples import UploadedFile
from worker.outcomes import Stopped, WorkerDied

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
EXIT_SECONDS = 10.0
USED_UP = 0.9
"""Of the memory that a check may use: a share that leaves no room for what it would take next."""


@dataclass(frozen=True)
class CheckOrder:
    """A file to check, or several that make one query, and where its canonical query goes."""

    path: Path
    folder: Path
    options: Mapping[str, Any]
    """What the caller said of the file; see `worker.intake.check.Request`."""
    seconds: float
    limits: Limits
    name: str = ""
    """What the file was called where it came from."""
    others: tuple[UploadedFile, ...] = ()
    """What came with it, in order."""

    @property
    def bounds(self) -> Limits:
        """The limits, drawn closer for a small upload."""
        return self.limits.for_size(sum(file.path.stat().st_size for file in self.files))

    @property
    def files(self) -> tuple[UploadedFile, ...]:
        """All that the check may read, in the order of `worker.sandbox.place_of`."""
        return (UploadedFile(self.path, self.name), *self.others)

    def written(self) -> bytes:
        """What the check is told: it knows its files by their descriptors. Their names
        say what they are and what samples are called; nothing is opened by them."""
        order = {
            "names": [file.name for file in self.files],
            "options": dict(self.options),
            "limits": self.bounds.as_dict(),
        }
        return json.dumps(order).encode()


class Check:
    """One check from its order to its judgement. The folder is the caller's to close."""

    def __init__(self, control: socket.socket, folder: CanonicalFolder, order: CheckOrder) -> None:
        self.control, self.folder, self.order = control, folder, order
        self.receiver = Receiver(folder)

    def run(self, stopped: Callable[[], bool], report: Callable[[float], None]) -> dict[str, Any]:
        """See `ZygoteProcess.check`."""
        with os.fdopen(self._send(), "rb", buffering=0) as pipe:
            pid = self._begin()
            try:
                self._receive(pipe.fileno(), stopped, report)
            except BaseException as error:
                self._end(pid, kill=True)
                if isinstance(error, BrokenStream):
                    log.warning("check %s wrote a broken stream: %s", pid, error)
                    raise _crashes() from error
                raise
            return self._judge(*self._end(pid, kill=False))

    def _send(self) -> int:
        """Give the order, one end of a pipe and the files to the zygote; returns the other end."""
        with ExitStack() as stack:
            files = [os.open(file.path, os.O_RDONLY | os.O_NONBLOCK) for file in self.order.files]
            for descriptor in files:
                stack.callback(os.close, descriptor)
            read_end, write_end = os.pipe()
            stack.callback(os.close, write_end)
            with suppress(OSError):
                fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, MIB)
            written = stack.enter_context(os.fdopen(os.memfd_create("order"), "wb", buffering=0))
            written.write(self.order.written())
            passed = [write_end, written.fileno(), *files]
            try:
                socket.send_fds(self.control, [b'{"check": true}'], passed)
            except OSError as error:
                os.close(read_end)
                raise WorkerDied("the zygote is gone") from error
        return read_end

    def _begin(self) -> int:
        # Skips what an earlier check, given up for lack of an answer, was told too late.
        while "pid" not in (message := self._message(EXIT_SECONDS)):
            continue
        return int(message["pid"])

    def _receive(
        self, pipe: int, stopped: Callable[[], bool], report: Callable[[float], None]
    ) -> None:
        deadline = time.monotonic() + self.order.seconds
        while True:
            if stopped():
                raise Stopped
            if time.monotonic() > deadline:
                raise _too_slow(self.order.seconds)
            if not select.select([pipe], [], [], TICK_SECONDS)[0]:
                continue
            data = os.read(pipe, MIB)
            if not data:
                return
            self.receiver.feed(data)
            report(self.receiver.progress)

    def _end(self, pid: int, *, kill: bool) -> tuple[int, int]:
        """Wait until the child is gone; its exit code, negative for a signal, and the most
        bytes of memory that it had."""
        try:
            if kill:
                self.control.send(json.dumps({"kill": pid}).encode())
            while (message := self._message(EXIT_SECONDS)).get("exited") != pid:
                continue
        except OSError as error:
            raise WorkerDied("the zygote is gone") from error
        return int(message["status"]), int(message["peak_bytes"])

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

    def _judge(self, status: int, peak_bytes: int) -> dict[str, Any]:
        if self.receiver.outcome is None:
            raise _death(status, peak_bytes, self.order.seconds, self.order.bounds)
        kind, outcome = self.receiver.outcome
        if kind == PROBLEM:
            raise _refusal(outcome)
        if kind == FAULT:
            log.error("a check failed:\n%s", outcome.get("traceback"))
            raise InternalFault("The check of this file failed.", fix="Upload the file again.")
        try:
            self.folder.finish(outcome)
        except (ValueError, KeyError, TypeError) as error:
            log.exception("a check handed on files that do not fit its report")
            raise _crashes() from error
        return outcome


def _refusal(outcome: Mapping[str, Any]) -> Problem:
    problem = Problem.from_dict(outcome.get("problem") or {})
    problem.inspection = outcome.get("inspection")
    return problem


def _death(status: int, peak_bytes: int, seconds: float, bounds: Limits) -> Exception:
    if status == -signal.SIGXCPU:
        return _too_slow(min(seconds, bounds.cpu_seconds))
    if status == -signal.SIGKILL:
        # The HDF5 library does not do this; an operator or the kernel short of memory does.
        return WorkerDied("the check was killed from outside")
    if status == UNPREPARED:
        log.error("a check could not be prepared: its file was not opened")
        return InternalFault("The check of this file failed.", fix="Upload the file again.")
    if peak_bytes >= USED_UP * bounds.memory_bytes:
        return too_large("/")  # not every library lives to say that it was given no more
    return _crashes()


def _crashes() -> Problem:
    return located(
        "crashes-reader",
        "/",
        "The file crashes the HDF5 reader: its structure is damaged.",
        "Check that it opens with anndata.read_h5ad where it was made, write it again with "
        "write_h5ad, and upload that.",
    )


def _too_slow(seconds: float) -> Problem:
    return located(
        "check-too-slow",
        "/",
        f"Checking the file took longer than the {seconds:,.0f} s that are allowed.",
        "Store the counts as a CSR matrix in chunks of ordinary size (write_h5ad does so), or "
        "upload the cells in several files.",
    )
