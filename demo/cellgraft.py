"""The command `cellgraft` as the demo uses it: building a reference, and the service's life."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from app.parent_death import die_with_parent
from demo.failures import DemoFailed

COMMAND = [sys.executable, "-m", "app.cli"]
READY_SECONDS = 60.0
STOP_SECONDS = 30.0

REFERENCE_NAME = "demo"
BATCH_KEY = "batch"
LABELS_KEY = "cell_type"


def surroundings() -> dict[str, str]:
    """The environment without anybody's Cellgraft settings, which are not about the demo."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CELLGRAFT_")}


def build_reference(file: Path, data_dir: Path, *, max_epochs: int) -> None:
    arguments = ["references", "build", str(file), "--name", REFERENCE_NAME]
    arguments += ["--batch-key", BATCH_KEY, "--labels-key", LABELS_KEY]
    arguments += ["--max-epochs", str(max_epochs), "--data-dir", str(data_dir)]
    arguments += ["--no-recipe-search"]  # it would train twice more
    if subprocess.run([*COMMAND, *arguments], env=surroundings(), check=False).returncode != 0:
        raise DemoFailed("The reference was not built; the reason stands above.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running_service(
    data_dir: Path, *, log: Path, command: Sequence[str] = COMMAND
) -> Iterator[str]:
    """The service on a free loopback port: its URL. It is stopped however the block ends."""
    ready = log.with_name("service.url")
    arguments = ["serve", "--data-dir", str(data_dir), "--port", str(free_port())]
    with log.open("w") as written:
        service = subprocess.Popen(
            [*command, *arguments, "--ready-file", str(ready)],
            env=surroundings(),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # ctrl-C is ours to pass on, once, when we have let go of it
            preexec_fn=partial(die_with_parent, signal.SIGTERM, parent=os.getpid()),
        )
        try:
            yield _wait_until_ready(service, ready, log)
        finally:
            _stop(service)


def _wait_until_ready(service: subprocess.Popen[bytes], ready: Path, log: Path) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and service.poll() is None:
        if ready.exists():
            return ready.read_text().strip()
        time.sleep(0.05)
    raise DemoFailed(f"The service did not start; {log} says why:\n{log.read_text()[-2000:]}")


def _stop(service: subprocess.Popen[bytes]) -> None:
    service.terminate()
    try:
        service.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(service.pid, signal.SIGKILL)
        service.wait()
