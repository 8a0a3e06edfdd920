"""What the reader of foreign files may do: read one file, and write to its pipe."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.problems import Problem
from worker.imports.limits import SaveLimits
from worker.imports.reader import read_save_apart
from worker.imports.save import SaveFiles
from worker.kernel_filter import MACHINES, refuse_actions

from .saves import Model, write

TRIES = """
import ctypes, os, resource, signal, socket, subprocess, sys, threading
from worker.kernel_filter import refuse_actions
from worker.sandbox import give_up_new_privileges

folder = sys.argv[1]
there = os.open(f"{folder}/there", os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)
parent = os.getppid()
give_up_new_privileges()
assert refuse_actions()

def attempt(name, act):
    try:
        act()
        print(name, "done")
    except PermissionError:
        print(name, "refused")

attempt("socket", lambda: socket.socket())
attempt("unix-socket", lambda: socket.socket(socket.AF_UNIX))
attempt("program", lambda: os.execv("/bin/true", ["true"]))
attempt("fork", os.fork)
attempt("spawn", lambda: subprocess.run(["true"]))
attempt("write", lambda: open(f"{folder}/new", "w"))
attempt("append", lambda: open(f"{folder}/there", "a"))
attempt("remove", lambda: os.remove(f"{folder}/there"))
attempt("rename", lambda: os.rename(f"{folder}/there", f"{folder}/gone"))
attempt("folder", lambda: os.mkdir(f"{folder}/folder"))
attempt("link", lambda: os.symlink("/", f"{folder}/link"))
attempt("mode", lambda: os.chmod(f"{folder}/there", 0o777))
attempt("signal", lambda: os.kill(os.getppid(), 0))
def call(number, *arguments):
    if libc.syscall(number, *arguments) != 0:
        raise OSError(ctypes.get_errno(), "refused by whom?")

x86 = os.uname().machine == "x86_64"
attempt("tgkill", lambda: call(234 if x86 else 131, parent, parent, 0))
attempt("queue", lambda: call(129 if x86 else 138, parent, 0, None))
attempt("queue-thread", lambda: call(297 if x86 else 240, parent, parent, 0, None))
attempt("pidfd", lambda: os.pidfd_open(parent))
attempt("pidfd-signal", lambda: call(424, 99, 0, None, 0))
attempt("pidfd-file", lambda: call(438, 99, 0, 0))
attempt("limits", lambda: resource.prlimit(parent, resource.RLIMIT_CORE))
attempt("pair", socket.socketpair)
attempt("mode-open", lambda: os.fchmod(there, 0o777))
attempt("mode-2", lambda: call(452, -100, f"{folder}/there".encode(), 0o777, 0))
attempt("owner", lambda: os.chown(f"{folder}/there", -1, -1))
attempt("owner-open", lambda: os.fchown(there, -1, -1))
attempt("owner-link", lambda: os.lchown(f"{folder}/there", -1, -1))
attempt("times", lambda: os.utime(f"{folder}/there", (0, 0)))
attempt("times-open", lambda: os.utime(there, (0, 0)))
attempt("attribute", lambda: os.setxattr(f"{folder}/there", "user.a", b"1"))
attempt("attribute-open", lambda: os.removexattr(there, "user.a"))
attempt("pipe-file", lambda: os.mkfifo(f"{folder}/pipe"))
if x86:
    attempt("node", lambda: call(133, f"{folder}/node".encode(), 0o010600, 0))
    attempt("times-old", lambda: call(235, f"{folder}/there".encode(), None))
attempt("own-limits", lambda: resource.setrlimit(
    resource.RLIMIT_AS, resource.getrlimit(resource.RLIMIT_AS)))
attempt("own-signal", lambda: signal.raise_signal(signal.SIGCONT))
attempt("read", lambda: open(f"{folder}/there").read())
attempt("thread", lambda: threading.Thread(target=int).start())
"""


def test_the_kernel_refuses_whatever_only_code_would_ask_for(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("kept")
    done = subprocess.run(
        [sys.executable, "-c", TRIES, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = dict(line.split() for line in done.stdout.splitlines())
    allowed = {name for name, outcome in found.items() if outcome == "done"}
    assert allowed == {"read", "thread", "own-limits", "own-signal"}
    assert len(found) == (37 if platform.machine() == "x86_64" else 35)
    assert (tmp_path / "there").stat().st_mtime > 0
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


ABORTS = """
import os
from worker.kernel_filter import refuse_actions
from worker.sandbox import give_up_new_privileges
give_up_new_privileges()
assert refuse_actions()
os.abort()
"""


def test_a_library_may_still_abort() -> None:
    done = subprocess.run([sys.executable, "-c", ABORTS], capture_output=True, check=False)
    assert done.returncode == -signal.SIGABRT, done.stderr


UNFILTERED = """
import ctypes, logging, os, sys
from pathlib import Path
ctypes.CDLL(None).personality(0x0008)  # the kernel then calls the machine by its 32-bit name
if os.uname().machine in ("x86_64", "aarch64"):
    sys.exit(77)
from worker.imports.limits import SaveLimits
from worker.imports.reader import read_save_apart
from worker.imports.save import SaveFiles
logging.basicConfig()
for name in ("one", "other"):
    told = read_save_apart(SaveFiles(Path(sys.argv[1])), Path(sys.argv[2]) / name, SaveLimits())
    assert told["attributes"]
"""


def test_an_import_without_a_filter_says_so_once(tmp_path: Path) -> None:
    saved = write(tmp_path / "save", Model(), "1.4.2") / "model.pt"
    command = [sys.executable, "-c", UNFILTERED, str(saved), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this kernel has one name for the machine")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no filter of system calls") == 1


def test_other_machines_have_no_filter_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    assert "vax" not in MACHINES
    assert refuse_actions() is False


def children() -> list[int]:
    return [
        int(pid)
        for task in Path(f"/proc/{os.getpid()}/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]


def reader_of(seconds: float = 30) -> Path:
    """The process of the reader, once it is in the sandbox."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for pid in children():
            place = Path(f"/proc/{pid}")
            try:
                if b"worker.imports.child" in (place / "cmdline").read_bytes() and (
                    "Seccomp:\t2" in (place / "status").read_text()
                ):
                    return place
            except OSError:
                continue
        time.sleep(0.02)
    raise AssertionError("no reader in a sandbox")


def test_the_reader_holds_no_secret_and_can_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLGRAFT_DATABASE_URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pipe = tmp_path / "model.pt"
    os.mkfifo(pipe)  # the reader waits in its sandbox until somebody writes
    raised: list[BaseException] = []

    def read() -> None:
        try:
            read_save_apart(SaveFiles(pipe), tmp_path / "out", SaveLimits())
        except Problem as problem:
            raised.append(problem)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    place = reader_of()
    assert b"secret" not in (place / "environ").read_bytes()
    limits = (place / "limits").read_text().splitlines()
    held = {line[:25].strip(): line[25:].split()[0] for line in limits}
    assert held["Max file size"] == "0"
    assert held["Max open files"] == "33"
    assert held["Max address space"] != "unlimited"
    assert "NoNewPrivs:\t1" in (place / "status").read_text()
    pipe.write_bytes(b"no model")
    reading.join(30)
    assert len(raised) == 1
    assert place.name not in {str(pid) for pid in children()}


def test_a_reader_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    from app.problems import JobTimeout

    pipe = tmp_path / "model.pt"
    os.mkfifo(pipe)
    with pytest.raises(JobTimeout):
        read_save_apart(SaveFiles(pipe), tmp_path / "out", SaveLimits(seconds=2))
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children()]
    assert not any(b"worker.imports.child" in command for command in commands)
