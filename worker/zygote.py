"""The intake zygote: single-threaded, preloaded, secret-free; forks one sandboxed child per file.

Run as `python -m worker.zygote --fd N`. On the socket N it takes `{"check": {...}}` with the write
end of a pipe, answers `{"pid": ...}`, and later `{"exited": pid, "status": ...}`; `{"kill": pid}`
ends a child. Its first message is `{"ready": true}`. It goes when the socket closes, and its
children with it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import signal
import socket
from pathlib import Path
from typing import Any

import pandas  # noqa: F401 - pyarrow imports it at its first conversion: once here, not per file

from app.parent_death import die_with_parent
from app.problems import Problem
from app.tracebacks import places, tell_no_messages
from worker.intake.check import Request, check_upload
from worker.intake.filters import load_plugins
from worker.intake.findings import too_large
from worker.intake.frames import FAULT, PROBLEM, REPORT, FrameWriter
from worker.intake.limits import Limits
from worker.intake.samples import UploadedFile
from worker.sandbox import allow_last_words, enter_sandbox

LONGEST_REQUEST = 1024 * 1024


class Zygote:
    """The loop that forks and reaps. It never opens a file of a user itself."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.children: dict[int, int] = {}
        """The pidfd of each living child, to its process id."""

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
        message, descriptors, _, _ = socket.recv_fds(self.control, LONGEST_REQUEST, 1)
        if not message:
            return False
        order = json.loads(message)
        if "kill" in order:
            self._kill(order["kill"])
        else:
            self._fork(order["check"], descriptors[0])
            os.close(descriptors[0])
        return True

    def _kill(self, pid: int) -> None:
        for descriptor, child in self.children.items():
            if child == pid:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)

    def _fork(self, order: dict[str, Any], pipe: int) -> None:
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_child(order, pipe, me)
        self.children[os.pidfd_open(pid)] = pid
        self._say({"pid": pid})

    def _reap(self, descriptor: int) -> None:
        pid = self.children.pop(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        self._say({"exited": pid, "status": os.waitstatus_to_exitcode(status)})

    def _say(self, message: dict[str, Any]) -> None:
        self.control.send(json.dumps(message).encode())


def _be_child(order: dict[str, Any], pipe: int, parent: int) -> None:
    """Check one file and exit, whatever happens; never returns."""
    status = 1
    try:
        die_with_parent(signal.SIGKILL, parent=parent)
        limits = Limits(**order["limits"])
        frames = FrameWriter(enter_sandbox(pipe, limits))
        status = _check(order, limits, frames)
    finally:
        os._exit(status)


def _check(order: dict[str, Any], limits: Limits, frames: FrameWriter) -> int:
    try:
        request = Request.from_options(order["options"])
        files = [UploadedFile(Path(path), name) for path, name in order["files"]]
        frames.finish(REPORT, check_upload(files, request, limits, frames))
    except Problem as problem:
        told = {"problem": problem.as_dict(), "inspection": problem.inspection}
        frames.finish(PROBLEM, told)
    except MemoryError:
        allow_last_words()
        frames.finish(PROBLEM, {"problem": too_large("/").as_dict(), "inspection": None})
    except Exception as error:  # noqa: BLE001 - its places travel to the parent, which logs them
        frames.finish(FAULT, {"traceback": places(error)})
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m worker.zygote")
    parser.add_argument("--fd", type=int, required=True)
    control = socket.socket(fileno=parser.parse_args().fd)
    die_with_parent(signal.SIGKILL, parent=os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    load_plugins()  # while it may still read libraries
    tell_no_messages()
    gc.freeze()  # children share these pages as long as the collector leaves them alone
    Zygote(control).serve()


if __name__ == "__main__":
    main()
