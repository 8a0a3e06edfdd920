"""bubblewrap, for kernels without Landlock: a process in namespaces that hold nothing but code."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.code_folders import code_folders, interpreter_places

PROBE_SECONDS = 10.0
SIGNALLED = 128
"""bubblewrap tells of a death by signal N with the exit status 128 + N, as a shell does."""

SHUT_OFF = (
    *("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
    *("--proc", "/proc", "--dev-bind", "/dev/null", "/dev/null"),
)


@dataclass(frozen=True)
class Bubblewrap:
    """What was found on this machine."""

    program: str = ""
    """Empty: none that works."""
    why_not: str = ""


def find_bubblewrap() -> Bubblewrap:
    """Whether it is there and can do, here and now, what readers are started with.

    It often cannot: containers forbid new namespaces, and some systems do to all but root.
    """
    program = shutil.which("bwrap")
    if program is None:
        return Bubblewrap(why_not="bubblewrap is not installed")
    try:
        tried = subprocess.run(
            [*wrapping(program, reads=()), sys.executable, "-I", "-S", "-c", ""],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Bubblewrap(why_not=str(error))
    if tried.returncode != 0:
        return Bubblewrap(why_not=" ".join(tried.stderr.split())[:200] or "it fails without a word")
    return Bubblewrap(program)


def wrapping(program: str, *, reads: Sequence[Path], packages: Sequence[str] = ()) -> list[str]:
    """What stands before a command of Python's that may read code and these files, and no others.

    Descriptors that are passed on reach it; its own children are seen by it alone.
    """
    words = [program, *SHUT_OFF]
    for place in (*interpreter_places(), *code_folders(*packages), *reads):
        words += ["--ro-bind", str(place), str(place)]
    # `python -m` looks here first; nothing but the packages is seen of it.
    return [*words, "--chdir", str(Path(__file__).parents[1]), "--"]


def stand_in(descriptor: int) -> Path | None:
    """Put an empty file where an open one was outside; None where something is there.

    HDF5 opens a file by its descriptor's name in /proc, finds that this is a link, and insists
    that the place it leads to exists; it does not look at what is there. Only for within.
    """
    place = Path(f"/proc/self/fd/{descriptor}").readlink()
    if place.exists():
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()
    return place


def status_of(status: int) -> int:
    """The exit status of what ran inside, negative for a signal, as `subprocess` has it."""
    return SIGNALLED - status if status > SIGNALLED else status
