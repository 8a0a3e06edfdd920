"""The trusted end: start the sandboxed reader on one file, and take only what was agreed."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from app.problems import FileTooLarge, InternalFault, JobTimeout, Problem, UnreadableSave
from worker.imports.cells import CELLS_FILES, CellsRequest
from worker.imports.child import UNFILTERED
from worker.imports.limits import SaveLimits
from worker.imports.save import WEIGHTS, SaveFiles
from worker.intake.folder import CanonicalFolder
from worker.intake.frames import FAULT, FILES, PROBLEM, Sink
from worker.intake.limits import MIB, Limits
from worker.intake.receiver import BrokenStream, Receiver
from worker.layers import Layers, find_layers
from worker.zygote_process import ENVIRONMENT, PASSED_ON

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
CELLS_SECONDS = 4 * 3600
"""A file of millions of cells with counts on a slow disk; an administrator waits for it."""

Report = Callable[[float], None]


class RawFolder:
    """A sink of plain files under names that were agreed on, up to a number of bytes."""

    def __init__(self, folder: Path, names: Sequence[str], *, quota: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._left = quota
        self._files: dict[str, BinaryIO] = {}
        with ExitStack() as stack:
            for name in names:
                self._files[name] = stack.enter_context((folder / name).open("wb"))
            self._stack = stack.pop_all()

    def write(self, name: str, data: Any) -> None:
        self._left -= memoryview(data).nbytes
        if self._left < 0:
            raise FileTooLarge(
                "The file unpacks to more bytes than there is room for on the disk.",
                fix="Free disk space, then import again.",
            )
        self._files[name].write(data)

    def progress(self, fraction: float) -> None:
        return None

    def restart(self) -> None:
        return None  # a save has no matrix that another could replace

    def close(self) -> None:
        self._stack.close()


class CellsFolder:
    """Counts and tables in canonical form, and beside them the arrays of obsm."""

    def __init__(self, folder: Path, *, quota: int) -> None:
        self._canonical = CanonicalFolder(folder, quota=quota)
        self._raw = RawFolder(folder, CELLS_FILES[len(FILES) :], quota=quota)

    def write(self, name: str, data: Any) -> None:
        (self._canonical if name in FILES else self._raw).write(name, data)

    def progress(self, fraction: float) -> None:
        return None

    def restart(self) -> None:
        self._canonical.restart()

    def finish(self, facts: dict[str, Any]) -> None:
        if "nnz" in facts:
            self._canonical.finish(facts)

    def close(self) -> None:
        self._raw.close()
        self._canonical.close()


@dataclass(frozen=True)
class _Reading:
    """What a reader is started for."""

    order: Mapping[str, Any]
    reads: Sequence[Path]
    seconds: float
    layers: Layers


def read_save_apart(
    files: SaveFiles, folder: Path, limits: SaveLimits, layers: Layers | None = None
) -> dict[str, Any]:
    """Read a save in the sandbox: its weights into `folder`, and what it says of itself.

    `layers` hold the reader; those of this machine where none are given.

    Raises:
        Problem: the save is refused, with the reason.
    """
    bounds = Limits(memory_bytes=limits.memory_bytes, cpu_seconds=limits.seconds)
    files = files.absolute()
    order = {
        "kind": "save",
        "files": files.as_dict(),
        "save_limits": limits.as_dict(),
        "limits": bounds.as_dict(),
    }
    sink = RawFolder(folder, (WEIGHTS,), quota=2 * limits.tensor_bytes)
    try:
        reads = [Path(place) for place in files.as_dict().values()]
        reading = _Reading(order, reads, limits.seconds, layers or find_layers())
        return _run(reading, sink, (WEIGHTS,), lambda _: None)
    finally:
        sink.close()


def read_cells_apart(
    path: Path,
    request: CellsRequest,
    folder: Path,
    limits: Limits,
    report: Report,
    layers: Layers | None = None,
) -> dict[str, Any]:
    """Read the cells of an h5ad in the sandbox, into `folder`; returns what was found.

    Raises:
        Problem: the file is refused, with the reason.
    """
    order = {
        "kind": "cells",
        "path": str(path.absolute()),
        "request": asdict(request),
        "limits": limits.as_dict(),
    }
    sink = CellsFolder(folder, quota=limits.output_bytes)
    try:
        reading = _Reading(order, [path.absolute()], CELLS_SECONDS, layers or find_layers())
        facts = _run(reading, sink, CELLS_FILES, report)
        sink.finish(facts)
        return facts
    finally:
        sink.close()


def _run(reading: _Reading, sink: Sink, names: Sequence[str], report: Report) -> dict[str, Any]:
    seconds, layers = reading.seconds, reading.layers
    read_end, write_end = os.pipe()
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        child = subprocess.Popen(
            _command(reading, write_end),
            pass_fds=[write_end],
            env=kept | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
        )
        os.close(write_end)
        try:
            receiver = _receive(pipe.fileno(), Receiver(sink, names), seconds, report)
        except BaseException as error:
            child.kill()
            if isinstance(error, BrokenStream):
                raise _crashes() from error
            raise
        finally:
            status = layers.status_of(child.wait())
    if status == UNFILTERED:
        _warn_of_no_filter()
    return _judge(receiver, status, seconds)


def _command(reading: _Reading, pipe: int) -> list[str]:
    layers = reading.layers
    # In namespaces of its own a process has other numbers, and bubblewrap looks after its end.
    parent = None if layers.active == "bubblewrap" else os.getpid()
    order = {**reading.order, "reads": [str(path) for path in reading.reads], "parent": parent}
    command = [sys.executable, "-m", "worker.imports.child"]
    command += ["--landlock-abi", str(layers.landlock.abi), "--fd", str(pipe), json.dumps(order)]
    return layers.wrap(command, reads=reading.reads)


def _receive(pipe: int, receiver: Receiver, seconds: float, report: Report) -> Receiver:
    deadline = time.monotonic() + seconds
    while True:
        if time.monotonic() > deadline:
            raise _too_slow(seconds)
        if not select.select([pipe], [], [], TICK_SECONDS)[0]:
            continue
        data = os.read(pipe, MIB)
        if not data:
            return receiver
        receiver.feed(data)
        report(receiver.progress)


def _judge(receiver: Receiver, status: int, seconds: float) -> dict[str, Any]:
    if receiver.outcome is None:
        raise _too_slow(seconds) if status == -signal.SIGXCPU else _crashes()
    kind, outcome = receiver.outcome
    if kind == PROBLEM:
        raise Problem.from_dict(outcome)
    if kind == FAULT:
        log.error("the reader failed:\n%s", outcome.get("traceback"))
        raise InternalFault(
            "Reading the file failed.", fix="Report this with the log and where the file is from."
        )
    return outcome


@cache
def _warn_of_no_filter() -> None:
    """Once in a process: an import reads more than one file."""
    log.warning(
        "This kernel or machine offers no filter of system calls (seccomp): foreign files are read "
        "in a process with limits and without secrets, but nothing more holds it."
    )


def _crashes() -> UnreadableSave:
    return UnreadableSave(
        "The file crashes its reader, which ran in a sandbox: it is damaged, or made to do harm.",
        fix="Copy the file again from its source, and compare its SHA-256.",
    )


def _too_slow(seconds: float) -> JobTimeout:
    return JobTimeout(
        f"Reading the file took longer than the {seconds:,.0f} s that are allowed.",
        fix="Check that the file is what its source offers.",
    )
