"""The intake zygote: single-threaded, preloaded, secret-free; forks one sandboxed child per file.

Run as `python -m worker.zygote --landlock-abi A --fd N`. On the socket N it takes
`{"check": true}` with the write end of a pipe, the order in a file of memory (it may be longer than
a message) and the files to check. It answers `{"pid": ...}`, and later `{"exited": pid, "status":
..., "peak_bytes": ...}`, the most memory that it had; `{"kill": pid}` ends a child. Its first
message is `{"ready": true}`. It goes when the socket closes, and its children with it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas  # noqa: F401 - pyarrow imports it at its first conversion: once here, not per file

from app.parent_death import die_with_parent
from app.problems import Problem
from app.tracebacks import places, tell_no_messages
from worker.bubblewrap import stand_in
from worker.code_folders import code_folders
from worker.intake.check import Request, check_upload
from worker.intake.filters import drop_other_plugins
from worker.intake.findings import too_large
from worker.intake.frames import FAULT, PROBLEM, REPORT, UNPREPARED, FrameWriter, Sink
from worker.intake.limits import Limits
from worker.intake.samples import UploadedFile
from worker.sandbox import allow_last_words, enter_sandbox, keep_memory_private, keep_only, place_of

LONGEST_MESSAGE, KIB = 1024, 1024
MOST_DESCRIPTORS = 253
"""The kernel passes no more with one message."""

CheckUpload = Callable[[Sequence[UploadedFile], Request, Limits, Sink], dict[str, Any]]


class Zygote:
    """The loop that forks and reaps. It never opens a file of a user itself."""

    def __init__(
        self,
        control: socket.socket,
        *,
        landlock_abi: int,
        names_hidden: bool = False,
        check: CheckUpload = check_upload,
    ) -> None:
        """`names_hidden`: the files that come are open, but not to be seen from here by name."""
        self.control, self.landlock_abi, self.check = control, landlock_abi, check
        self.names_hidden = names_hidden
        self.children: dict[int, int] = {}
        """The pidfd of each living child, to its process id."""
        self.stand_ins: dict[int, list[Path]] = {}
        """By the process id of a child, what goes when it has ended."""

    def serve(self) -> None:
        self._say({"ready": True})
        while True:
            control = self.control.fileno()
            ready, _, _ = select.select([control, *self.children], [], [])
            for descriptor in ready:
                if descriptor in self.children:
                    self._reap(descriptor)
                elif not self._take_message():
                    return

    def _take_message(self) -> bool:
        message, passed, _, _ = socket.recv_fds(self.control, LONGEST_MESSAGE, MOST_DESCRIPTORS)
        if not message:
            return False
        asked = json.loads(message)
        if "kill" in asked:
            self._kill(asked["kill"])
        else:
            self._fork(*passed)
            for descriptor in passed:
                os.close(descriptor)
        return True

    def _kill(self, pid: int) -> None:
        for descriptor, child in self.children.items():
            if child == pid:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)

    def _fork(self, pipe: int, written: int, *files: int) -> None:
        me = os.getpid()
        placed = [stand_in(file) for file in files] if self.names_hidden else []
        pid = os.fork()
        if pid == 0:
            self._be_child(pipe, written, files, parent=me)
        self.stand_ins[pid] = [place for place in placed if place is not None]
        self.children[os.pidfd_open(pid)] = pid
        self._say({"pid": pid})

    def _reap(self, descriptor: int) -> None:
        pid = self.children.pop(descriptor)
        os.close(descriptor)
        _, status, cost = os.wait4(pid, 0)
        for place in self.stand_ins.pop(pid):
            place.unlink()
        code, peak = os.waitstatus_to_exitcode(status), cost.ru_maxrss * KIB
        self._say({"exited": pid, "status": code, "peak_bytes": peak})

    def _be_child(self, pipe: int, written: int, files: Sequence[int], *, parent: int) -> None:
        """Check one file and exit, whatever happens; never returns."""
        status = UNPREPARED
        try:
            die_with_parent(signal.SIGKILL, parent=parent)
            order = json.loads(os.pread(written, os.fstat(written).st_size, 0))
            frames = FrameWriter(keep_only(pipe, files))
            limits = Limits(**order["limits"])
            status = 1
            if self._enter(limits, [place_of(number) for number in range(len(files))], frames):
                _check(order, limits, frames, self.check)
            status = 0
        finally:
            os._exit(status)

    def _enter(self, limits: Limits, reads: Sequence[Path], frames: FrameWriter) -> bool:
        """Whether this process is in its sandbox; if not, that is told, and no file is opened."""
        try:
            enter_sandbox(limits, landlock_abi=self.landlock_abi, reads=reads)
        except Exception as error:  # noqa: BLE001 - its places travel to the parent, which logs them
            frames.finish(FAULT, {"traceback": places(error)})
            return False
        return True

    def _say(self, message: dict[str, Any]) -> None:
        self.control.send(json.dumps(message).encode())


def _check(
    order: dict[str, Any], limits: Limits, frames: FrameWriter, check: CheckUpload | None = None
) -> None:
    try:
        request = Request.from_options(order["options"])
        files = [UploadedFile(place_of(at), name) for at, name in enumerate(order["names"])]
        report = (check or check_upload)(files, request, limits, frames)
        frames.finish(REPORT, report)
    except Problem as problem:
        allow_last_words()  # what ran out of memory may be held still by those who read
        told = {"problem": problem.as_dict(), "inspection": problem.inspection}
        frames.finish(PROBLEM, told)
    except MemoryError:
        allow_last_words()
        frames.finish(PROBLEM, {"problem": too_large("/").as_dict(), "inspection": None})
    except Exception as error:  # noqa: BLE001 - its places travel to the parent, which logs them
        allow_last_words()
        frames.finish(FAULT, {"traceback": places(error)})


def main(check: CheckUpload = check_upload) -> None:
    parser = argparse.ArgumentParser(prog="python -m worker.zygote")
    parser.add_argument("--landlock-abi", type=int, required=True)
    parser.add_argument("--names-hidden", action="store_true")
    parser.add_argument("--fd", type=int, required=True)
    arguments = parser.parse_args()
    control = socket.socket(fileno=arguments.fd)
    die_with_parent(signal.SIGKILL, parent=os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    drop_other_plugins()  # while it may still read libraries
    tell_no_messages()
    if not arguments.landlock_abi:
        keep_memory_private()
    code_folders()  # found once here, not per file
    gc.freeze()  # children share these pages as long as the collector leaves them alone
    Zygote(
        control,
        landlock_abi=arguments.landlock_abi,
        names_hidden=arguments.names_hidden,
        check=check,
    ).serve()


if __name__ == "__main__":
    main()
