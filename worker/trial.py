"""A sandbox on trial: a process enters it as a reader of foreign files does, and tries to get out.

Run as `python -m worker.trial --landlock-abi A --fd N GIVEN OTHER PORT PARENT`; it writes to the
pipe N which of the things that a reader must not do it could do.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from worker.intake.limits import Limits
from worker.layers import Layers
from worker.sandbox import enter_sandbox, keep_only

GIVEN = "read the file that it was given"
TRIAL_SECONDS = 30.0


def attempts(
    given: Path, other: Path, *, port: int, parent: int
) -> dict[str, Callable[[], object]]:
    """What is tried, by what is said of it."""
    return {
        GIVEN: given.read_bytes,
        "read another file": other.read_bytes,
        "write a file": lambda: other.with_name("new").write_bytes(b"new"),
        "connect by TCP": lambda: socket.create_connection(("127.0.0.1", port), timeout=2),
        "start a process": _start_process,
        "signal another process": lambda: os.kill(parent, 0),
    }


def try_layers(layers: Layers) -> dict[str, bool]:
    """What a process held by these layers could do, tried in one.

    Raises:
        OSError: it did not even come to trying.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        given, other = Path(folder, "given"), Path(folder, "other")
        given.write_bytes(b"given")
        other.write_bytes(b"other")
        read_end, write_end = os.pipe()
        port = listener.getsockname()[1]
        words = ["--landlock-abi", str(layers.landlock.abi), "--fd", str(write_end)]
        words += [str(given), str(other), str(port), str(os.getpid())]
        command = layers.wrap([sys.executable, "-m", "worker.trial", *words], reads=[given])
        with os.fdopen(read_end, "rb") as pipe:
            with os.fdopen(write_end, "wb"):
                done = subprocess.run(
                    command, pass_fds=[write_end], timeout=TRIAL_SECONDS, check=False
                )
            told = pipe.read()
    if not told:
        raise OSError(f"a process in the sandbox ended with {done.returncode} and said nothing")
    return dict(json.loads(told))


def _start_process() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m worker.trial")
    for name in ("--landlock-abi", "--fd"):
        parser.add_argument(name, type=int, required=True)
    for name, kind in (("given", Path), ("other", Path), ("port", int), ("parent", int)):
        parser.add_argument(name, type=kind)
    asked = parser.parse_args()
    pipe = keep_only(asked.fd)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error then, as for any other attempt
    enter_sandbox(Limits(), landlock_abi=asked.landlock_abi, reads=[asked.given])
    tried = attempts(asked.given, asked.other, port=asked.port, parent=asked.parent)
    told = {what: _succeeds(attempt) for what, attempt in tried.items()}
    os.write(pipe, json.dumps(told).encode())


if __name__ == "__main__":
    main()
