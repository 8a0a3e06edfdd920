"""The commands, as a person or `cellgraft serve` starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.database import Database
from app.tables import Job
from tests.worker.intake import files


def start(*arguments: str, data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments],
        env={**os.environ, "CELLGRAFT_DATA_DIR": str(data_dir), "CELLGRAFT_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_parent_holds_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, worker.commands.run, worker.commands.build\n"
        "heavy = {'torch', 'anndata', 'h5py', 'fastapi', 'scanpy', 'pandas'}\n"
        "print(*heavy.intersection(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_a_bad_file_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "counts.h5ad"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    command = start("build", str(path), "--name", "demo", data_dir=tmp_path / "data")
    _, told = command.communicate(timeout=60)
    assert command.returncode == 1
    assert "cannot be unpacked" in told
    assert "Pack the files again" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.h5ad", "--name", "demo"], "no file"),
        (["nowhere.h5ad", "--name", "demo", "--set", "n_latent"], "n_latent=20"),
    ],
)
def test_mistakes_on_the_command_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    command = start("build", *arguments, data_dir=tmp_path / "data")
    _, told = command.communicate(timeout=60)
    assert command.returncode > 0
    assert said in told


def wait_for_child(parent: int, module: str, seconds: float = 30) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in map(int, listed):
            if module in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        time.sleep(0.02)
    raise AssertionError(f"{module} was not started")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_run_stops_at_sigterm(tmp_path: Path) -> None:
    command = start("run", data_dir=tmp_path / "data")
    wait_for_child(command.pid, "worker.zygote")
    command.send_signal(signal.SIGTERM)
    _, told = command.communicate(timeout=30)
    assert command.returncode == 0, told


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    command = start("run", data_dir=tmp_path / "data")
    children = [wait_for_child(command.pid, f"worker.{name}") for name in ("zygote", "child")]
    time.sleep(1.0)  # until they have asked the kernel to
    command.kill()
    command.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, children))


def test_an_interrupted_build_leaves_nothing_queued(tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "counts.h5ad", files.counts(400, 300))
    data_dir = tmp_path / "data"
    command = start("build", str(path), "--name", "demo", data_dir=data_dir)
    wait_for_child(command.pid, "worker.child")
    command.send_signal(signal.SIGINT)
    _, told = command.communicate(timeout=60)
    assert command.returncode == 130, told
    database = Database(f"sqlite:///{data_dir / 'cellgraft.db'}")
    with database.reading() as session:
        assert {job.state for job in session.query(Job)} <= {"failed", "succeeded"}
    database.close()
