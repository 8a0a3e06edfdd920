"""The worker's sign of life, and the health check that a container runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from app.database import Database
from app.presence import SILENT_SECONDS, SignOfLife
from tests.app.live import until
from tests.worker.processes.conftest import TIMING
from worker.parent import Parent
from worker.workplace import Workplace


def health(data_dir: Path) -> int:
    environment = {**os.environ, "CELLGRAFT_DATA_DIR": str(data_dir)}
    command = [sys.executable, "-m", "app.presence"]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


@pytest.fixture
def worker(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", "run"],
        env={**os.environ, "CELLGRAFT_DATA_DIR": str(tmp_path), "CELLGRAFT_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: SignOfLife(tmp_path).age() is not None)
        yield process
    finally:
        process.kill()
        process.wait()


def file_of(data_dir: Path) -> Path:
    return data_dir / f"worker-{socket.gethostname()}.alive"


def test_without_a_worker_there_is_no_life(tmp_path: Path) -> None:
    assert health(tmp_path) == 1


def test_a_running_worker_is_alive_and_takes_its_sign_away(tmp_path: Path, worker) -> None:
    assert health(tmp_path) == 0
    worker.terminate()
    worker.wait(60)
    assert health(tmp_path) == 1


def test_the_sign_is_given_again_and_again(tmp_path: Path, worker) -> None:
    os.utime(file_of(tmp_path), (0, 0))
    until(lambda: file_of(tmp_path).stat().st_mtime > 0)
    assert health(tmp_path) == 0


def test_a_loop_that_stands_still_counts_as_dead(tmp_path: Path, worker) -> None:
    worker.send_signal(signal.SIGSTOP)
    long_ago = time.time() - SILENT_SECONDS - 1
    os.utime(file_of(tmp_path), (long_ago, long_ago))
    time.sleep(2.5)
    assert health(tmp_path) == 1


def test_the_check_imports_nothing_heavy() -> None:
    code = "import sys, app.presence; print(*{'sqlalchemy', 'typer', 'pydantic'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_the_loop_turns_while_the_database_is_away(tmp_path: Path, place: Workplace) -> None:
    (tmp_path / "a-folder").mkdir()
    turns: list[float] = []
    away = Database(f"sqlite:///{tmp_path / 'a-folder'}")
    parent = Parent(away, place, TIMING)
    parent.run(until=lambda: len(turns) >= 4, at_each_turn=lambda: turns.append(time.monotonic()))
    assert max(after - before for before, after in pairwise(turns)) < SILENT_SECONDS / 10
    away.close()
