"""Which layer keeps a reader of foreign files from all else on this machine, and what it lacks."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.bubblewrap import Bubblewrap, find_bubblewrap, status_of, wrapping
from worker.kernel_filter import offers_filter
from worker.landlock import Landlock, find_landlock

log = logging.getLogger(__name__)

TCP_ABI = 4
FIXES = {
    "ENOSYS": "Use a kernel with Landlock: Linux 5.13 or later, built with it.",
    "ENOTSUP": "Add `landlock` to the kernel's boot parameter `lsm=`.",
    "EPERM": "Use a container runtime whose seccomp profile allows Landlock; those of Docker and "
    "containerd do by default since 2022.",
}
INSTALL = "Or install bubblewrap where new namespaces are allowed."


class NoSandbox(Exception):
    """This machine offers no sandbox, and the settings ask for one."""


@dataclass(frozen=True)
class Lack:
    """Something that a sandbox here does not do, and what would change that."""

    what: str
    fix: str


@dataclass(frozen=True)
class Layers:
    """What readers of foreign files are held by. Limits on resources hold them always."""

    landlock: Landlock
    bubblewrap: Bubblewrap = field(default_factory=Bubblewrap)
    """Used where there is no Landlock."""
    filtered: bool = True
    """Whether the kernel refuses calls that only code would make."""

    @property
    def active(self) -> str:
        if self.landlock.abi:
            return "landlock"
        return "bubblewrap" if self.bubblewrap.program else "limits"

    @property
    def lacks(self) -> list[Lack]:
        found = []
        if self.active == "limits":
            found.append(
                Lack(
                    "An uploaded file that takes over its reader can read every file that the "
                    f"worker can: no Landlock ({self.landlock.why_not}), no bubblewrap "
                    f"({self.bubblewrap.why_not}).",
                    f"{FIXES.get(self.landlock.why_not, FIXES['ENOSYS'])} {INSTALL}",
                )
            )
        if not self.filtered:
            found.append(
                Lack(
                    f"System calls are not filtered on this machine ({platform.machine()}).",
                    "Use x86-64 or ARM64 and a kernel with seccomp filters.",
                )
            )
        if not self.filtered and self.active != "bubblewrap" and self.landlock.abi < TCP_ABI:
            found.append(Lack("The network is not closed to a reader.", "Use Linux 6.7 or later."))
        return found

    def as_dict(self) -> dict[str, Any]:
        """As a worker tells it to the service."""
        return {
            "layer": self.active,
            "landlock_abi": self.landlock.abi,
            "filter": self.filtered,
            "missing": [{"what": lack.what, "fix": lack.fix} for lack in self.lacks],
        }

    @property
    def arguments(self) -> list[str]:
        """What a zygote is told of it."""
        hidden = ["--names-hidden"] if self.active == "bubblewrap" else []
        return ["--landlock-abi", str(self.landlock.abi), *hidden]

    def status_of(self, status: int) -> int:
        """How a command that `wrap` gave ended, negative for a signal."""
        return status_of(status) if self.active == "bubblewrap" else status

    def wrap(
        self, command: Sequence[str], *, reads: Sequence[Path] = (), packages: Sequence[str] = ()
    ) -> list[str]:
        """The command as it is to be started: within bubblewrap where that is what holds it."""
        if self.active != "bubblewrap":
            return list(command)
        return [*wrapping(self.bubblewrap.program, reads=reads, packages=packages), *command]


def find_layers(
    *,
    landlock: Callable[[], Landlock] = find_landlock,
    bubblewrap: Callable[[], Bubblewrap] = find_bubblewrap,
    filtered: Callable[[], bool] = offers_filter,
) -> Layers:
    """Ask the machine; bubblewrap is tried only where it is needed."""
    kernel = landlock()
    return Layers(kernel, Bubblewrap() if kernel.abi else bubblewrap(), filtered())


def require(layers: Layers, setting: str) -> Layers:
    """What was found, if it is enough for `CELLGRAFT_SANDBOX`.

    Raises:
        NoSandbox: it is `strict`, and there is neither Landlock nor bubblewrap.
    """
    if setting == "strict" and layers.active == "limits":
        lack = layers.lacks[0]
        raise NoSandbox(f"CELLGRAFT_SANDBOX is strict, and there is no sandbox here. {lack.fix}")
    return layers


def warn(layers: Layers) -> None:
    """Into the log, as loud as it gets, what a sandbox here does not do."""
    for lack in layers.lacks:
        log.warning("SANDBOX INCOMPLETE: %s %s", lack.what, lack.fix)
