"""What the reader of foreign files may do: read one file, and write to its pipe."""

from __future__ import annotations

import os
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

TRIES = """
import os, signal, socket, subprocess, sys, threading
from worker.kernel_filter import refuse_actions
from worker.sandbox import _prctl, PR_SET_NO_NEW_PRIVS

folder = sys.argv[1]
_prctl(PR_SET_NO_NEW_PRIVS, 1)
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
    assert allowed == {"read", "thread"}
    assert len(found) == 15
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


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
    assert held["Max open files"] == "32"
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
