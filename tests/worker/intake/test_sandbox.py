"""The zygote and its children: what they may do, how they end, and what that means."""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from app.problems import FileTooLarge, InternalFault, JobTimeout, Problem, UnreadableFile
from worker.checking import CheckOrder, _death
from worker.intake.folder import CanonicalFolder
from worker.intake.frames import DATA, HEADER, PROGRESS, REPORT
from worker.intake.limits import Limits
from worker.intake.receiver import BrokenStream, Receiver
from worker.outcomes import Stopped, WorkerDied
from worker.zygote_process import ZygoteProcess

from . import files


@pytest.fixture
def own_zygote(tmp_path: Path) -> Iterator[ZygoteProcess]:
    process = ZygoteProcess()
    process.start()
    # Once warm, its only children are checks; an import of its own runs `uname`.
    process.check(order_for(files.write_h5ad(tmp_path / "warm.h5ad"), tmp_path / "warm"))
    yield process
    process.stop()


def order_for(path: Path, folder: Path, *, seconds: float = 20.0, **limits: int) -> CheckOrder:
    return CheckOrder(path, folder, {}, seconds, Limits(**limits))


@pytest.fixture
def slow_file(tmp_path: Path) -> Path:
    """Half a gigabyte of honest zeros and ones: seconds of work for the check."""
    path = files.write_h5ad(tmp_path / "slow.h5ad", files.counts(4, 4))
    with h5py.File(path, "a") as file:
        for name in ("X", "obs", "var"):
            del file[name]
        n_cells, n_genes = 32_000, 4_000
        chunk = np.random.default_rng(0).integers(0, 2, (1000, n_genes), dtype=np.int8)
        stored = file.create_dataset(
            "X", (n_cells, n_genes), "f4", chunks=(1000, n_genes), compression="gzip"
        )
        for start in range(0, n_cells, 1000):
            if start == 0:
                stored[:1000] = chunk
                packed = stored.id.read_direct_chunk((0, 0))[1]
            else:
                stored.id.write_direct_chunk((start, 0), packed)
        files.write_frame(file, "obs", files.names("c", n_cells), [])
        files.write_frame(file, "var", files.names("g", n_genes), [])
    return path


def child_of(zygote: ZygoteProcess, seconds: float = 5.0) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        listed = Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children").read_text().split()
        if listed:
            return int(listed[0])
        time.sleep(0.01)
    raise AssertionError("the zygote forked nothing")


class Checking(threading.Thread):
    """A check in the background, so that a test can interfere."""

    def __init__(self, zygote: ZygoteProcess, order: CheckOrder, **how: Any) -> None:
        super().__init__(daemon=True)
        self.zygote, self.order, self.how = zygote, order, how
        self.raised: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.zygote.check(self.order, **self.how)
        except (Problem, Stopped, WorkerDied) as error:
            self.raised = error

    def outcome(self) -> BaseException | None:
        self.join(20)
        assert not self.is_alive()
        return self.raised


def test_the_zygote_has_one_thread_and_no_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CELLGRAFT_DATABASE_URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    zygote = ZygoteProcess()
    zygote.start()
    try:
        zygote.check(order_for(files.write_h5ad(tmp_path / "q.h5ad"), tmp_path / "out"))
        proc = Path(f"/proc/{zygote.pid}")
        assert len(list((proc / "task").iterdir())) == 1
        assert b"secret" not in (proc / "environ").read_bytes()
    finally:
        zygote.stop()


def test_the_child_is_limited(own_zygote: ZygoteProcess, slow_file: Path, tmp_path: Path) -> None:
    checking = Checking(own_zygote, order_for(slow_file, tmp_path / "out"))
    proc = Path(f"/proc/{child_of(own_zygote)}")
    time.sleep(0.2)
    limits = (proc / "limits").read_text().splitlines()
    held = {line[:25].strip(): line[25:].split()[0] for line in limits}
    assert held["Max file size"] == "0"
    assert held["Max core file size"] == "0"
    assert held["Max open files"] == "33"
    assert int(held["Max address space"]) < 16 * 2**30
    assert "NoNewPrivs:\t1" in (proc / "status").read_text()
    assert len(list((proc / "fd").iterdir())) <= 6  # standard three, the pipe, the upload twice
    os.kill(int(proc.name), signal.SIGSEGV)
    assert isinstance(checking.outcome(), UnreadableFile)


def test_the_open_files_of_an_ordinary_shell_suffice(tmp_path: Path) -> None:
    held = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, held[1]))
    zygote = ZygoteProcess()
    try:
        zygote.start()
        order = order_for(files.write_h5ad(tmp_path / "q.h5ad"), tmp_path / "out")
        assert zygote.check(order)["n_cells"] == files.CELLS
    finally:
        zygote.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, held)


def test_a_check_that_cannot_begin_says_nothing_of_the_file(
    own_zygote: ZygoteProcess, tmp_path: Path
) -> None:
    assert own_zygote.pid is not None
    held = resource.prlimit(own_zygote.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(own_zygote.pid, resource.RLIMIT_NOFILE, (9, held[1]))
    sound = files.write_h5ad(tmp_path / "sound.h5ad")
    with pytest.raises(InternalFault):
        own_zygote.check(order_for(sound, tmp_path / "out"))
    resource.prlimit(own_zygote.pid, resource.RLIMIT_NOFILE, held)
    assert own_zygote.check(order_for(sound, tmp_path / "again"))["n_cells"] == files.CELLS


def test_a_crash_means_refused_and_the_zygote_lives_on(
    own_zygote: ZygoteProcess, slow_file: Path, tmp_path: Path
) -> None:
    checking = Checking(own_zygote, order_for(slow_file, tmp_path / "out"))
    os.kill(child_of(own_zygote), signal.SIGABRT)
    problem = checking.outcome()
    assert isinstance(problem, UnreadableFile)
    assert "crashes the HDF5 reader" in problem.detail
    sound = files.write_h5ad(tmp_path / "sound.h5ad")
    assert own_zygote.check(order_for(sound, tmp_path / "again"))["n_cells"] == files.CELLS


def test_a_kill_from_outside_says_nothing_of_the_file(
    own_zygote: ZygoteProcess, slow_file: Path, tmp_path: Path
) -> None:
    checking = Checking(own_zygote, order_for(slow_file, tmp_path / "out"))
    os.kill(child_of(own_zygote), signal.SIGKILL)
    assert isinstance(checking.outcome(), WorkerDied)


def test_the_death_of_the_zygote_takes_its_child_along(
    own_zygote: ZygoteProcess, slow_file: Path, tmp_path: Path
) -> None:
    checking = Checking(own_zygote, order_for(slow_file, tmp_path / "out"))
    child = child_of(own_zygote)
    assert own_zygote.pid is not None
    os.kill(own_zygote.pid, signal.SIGKILL)
    assert isinstance(checking.outcome(), WorkerDied)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}/fd/3").exists()
    own_zygote.start()
    sound = files.write_h5ad(tmp_path / "sound.h5ad")
    assert own_zygote.check(order_for(sound, tmp_path / "again"))["n_cells"] == files.CELLS


def test_the_clock_ends_a_check(own_zygote: ZygoteProcess, slow_file: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(JobTimeout):
        own_zygote.check(order_for(slow_file, tmp_path / "out", seconds=0.3))
    assert time.monotonic() - began < 3


def test_processor_time_ends_a_check(
    own_zygote: ZygoteProcess, slow_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(JobTimeout):
        own_zygote.check(order_for(slow_file, tmp_path / "out", cpu_seconds=1))


def test_a_stop_ends_a_check(own_zygote: ZygoteProcess, slow_file: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    checking = Checking(own_zygote, order_for(slow_file, tmp_path / "out"), stopped=stop.is_set)
    child_of(own_zygote)
    stop.set()
    assert isinstance(checking.outcome(), Stopped)


def test_running_out_of_memory_is_told(own_zygote: ZygoteProcess, tmp_path: Path) -> None:
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        cells = 400_000
        del file["X"], file["obs"]
        files.write_matrix(file, "X", np.ones((cells, 1), dtype=np.float32), "csr")
        frame = files.write_frame(file, "obs", files.names("c", 2), [])
        del frame["_index"]
        frame.create_dataset("_index", (cells,), "S200", chunks=(1000,), compression="gzip")
    with pytest.raises(FileTooLarge):
        own_zygote.check(order_for(path, tmp_path / "out", memory_bytes=2**28))


def test_memory_is_bounded_by_a_block(own_zygote: ZygoteProcess, tmp_path: Path) -> None:
    """64 million dense values, 256 MB as numbers, are proved within 200 MB."""
    path = files.write_h5ad(tmp_path / "query.h5ad")
    with h5py.File(path, "a") as file:
        for name in ("X", "obs", "var"):
            del file[name]
        n_cells, n_genes = 16_000, 4_000
        stored = file.create_dataset(
            "X", (n_cells, n_genes), "f4", chunks=(500, n_genes), compression="gzip"
        )
        stored[:500] = np.eye(500, n_genes)
        packed = stored.id.read_direct_chunk((0, 0))[1]
        for start in range(500, n_cells, 500):
            stored.id.write_direct_chunk((start, 0), packed)
        files.write_frame(file, "obs", files.names("c", n_cells), [])
        files.write_frame(file, "var", files.names("g", n_genes), [])
    limits = Limits(memory_bytes=200 * 2**20, expansion=1000)
    order = CheckOrder(path, tmp_path / "out", {}, 60.0, limits)
    assert own_zygote.check(order)["nnz"] == n_cells


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (-signal.SIGSEGV, UnreadableFile),
        (-signal.SIGBUS, UnreadableFile),
        (1, UnreadableFile),
        (0, UnreadableFile),
        (-signal.SIGXCPU, JobTimeout),
        (-signal.SIGKILL, WorkerDied),
    ],
)
def test_what_a_death_means(status: int, expected: type[Exception]) -> None:
    assert isinstance(_death(status, 0, 1.0, Limits()), expected)


BAD_STREAMS: dict[str, bytes] = {
    "unknown kind": HEADER.pack(9, 0, 0),
    "unknown file": HEADER.pack(DATA, 77, 0),
    "enormous frame": HEADER.pack(DATA, 0, 2**31),
    "report that is no JSON": HEADER.pack(REPORT, 0, 3) + b"{{{",
    "report that is a list": HEADER.pack(REPORT, 0, 3) + b"[1]",
    "progress of the wrong size": HEADER.pack(PROGRESS, 0, 2) + b"ab",
    "more after the report": HEADER.pack(REPORT, 0, 2) + b"{}" + HEADER.pack(DATA, 0, 0),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
def test_the_receiver_trusts_nothing(name: str, tmp_path: Path) -> None:
    folder = CanonicalFolder(tmp_path / "out", quota=1000)
    with pytest.raises(BrokenStream):
        Receiver(folder).feed(BAD_STREAMS[name])
    folder.close()


def test_the_receiver_keeps_to_its_quota(tmp_path: Path) -> None:
    folder = CanonicalFolder(tmp_path / "out", quota=10)
    with pytest.raises(Problem, match="disk space"):
        Receiver(folder).feed(HEADER.pack(DATA, 0, 16) + bytes(16))
    folder.close()


def test_frames_may_arrive_in_any_pieces(tmp_path: Path) -> None:
    folder = CanonicalFolder(tmp_path / "out", quota=1000)
    receiver = Receiver(folder)
    stream = HEADER.pack(DATA, 3, 4) + b"gene" + HEADER.pack(REPORT, 0, 9) + b'{"a": 12}'
    for byte in stream:
        receiver.feed(bytes([byte]))
    folder.close()
    assert receiver.outcome == (REPORT, {"a": 12})
    assert (tmp_path / "out/genes.json").read_bytes() == b"gene"


def test_a_zygote_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WorkerDied):
        ZygoteProcess().check(order_for(tmp_path / "q.h5ad", tmp_path / "out"))


def test_the_zygote_goes_when_its_socket_closes(own_zygote: ZygoteProcess) -> None:
    control: socket.socket | None = own_zygote._socket
    process = own_zygote._process
    assert control is not None
    assert process is not None
    control.close()
    assert process.wait(10) == 0


def test_logarithms_are_undone_in_the_memory_that_their_file_pays_for(
    own_zygote: ZygoteProcess, tmp_path: Path
) -> None:
    """Memory is counted in addresses: what a library only reserves must not take them."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.8, (1950, 2000)).astype(np.float64)
    scaled = np.log1p(counts * (1e4 / counts.sum(1, keepdims=True))).astype(np.float32)
    path = files.write_h5ad(tmp_path / "logs.h5ad", scaled)
    assert 16 * 2**20 < path.stat().st_size < 17 * 2**20  # then a gigabyte just fits
    order = CheckOrder(path, tmp_path / "canonical", {}, 30.0, Limits())
    assert own_zygote.check(order)["counts_class"] == "log-normalised"
