"""The parent's end of the intake zygote: start it, and hand it one file at a time."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from worker.checking import Check, CheckOrder
from worker.held_process import HeldProcess
from worker.intake.folder import CanonicalFolder
from worker.intake.limits import MIB
from worker.layers import Layers, find_layers
from worker.outcomes import WorkerDied

PASSED_ON = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")
ENVIRONMENT = {
    # One thread, so that fork is safe; no plugins, so that no filter is loaded from a folder.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # Other pools of Arrow reserve a gigabyte of addresses, which is what a check is limited by; and
    # one of them, though not used, would start a thread.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "HDF5_PLUGIN_PATH": "::",
    "PYTHONUNBUFFERED": "1",
}


class ZygoteProcess(HeldProcess):
    """The zygote as the parent holds it."""

    def __init__(self, module: str = "worker.zygote", *, layers: Layers | None = None) -> None:
        """`layers` hold its children; those of this machine where none are given."""
        self.layers = layers or find_layers()
        super().__init__(module, self.layers.arguments, kind=socket.SOCK_SEQPACKET)
        self._command = self.layers.wrap(self._command, packages=(module.partition(".")[0],))

    def check(
        self,
        order: CheckOrder,
        *,
        stopped: Callable[[], bool] = lambda: False,
        report: Callable[[float], None] = lambda fraction: None,
    ) -> dict[str, Any]:
        """Check one file in a process of its own; returns the inspection.

        Raises:
            Problem: the file is refused, with the reason.
            Stopped: `stopped` said so.
            WorkerDied: the zygote or the check was killed; neither says anything of the file.
        """
        if not self.wait_until_ready() or self._socket is None:
            raise WorkerDied("the zygote is not running")
        # The folder comes first: were there no room for it after the order was sent, the answers
        # to this order would be taken for those to the next.
        with closing(CanonicalFolder(order.folder, quota=order.limits.output_bytes)) as folder:
            try:
                return Check(self._socket, folder, order).run(stopped, report)
            except WorkerDied:
                self.kill()  # whatever is wrong with it, a new one is sound
                raise

    def _environment(self) -> Mapping[str, str]:
        kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return kept | ENVIRONMENT

    def _hears_ready(self, seconds: float) -> bool:
        if self._socket is None or not select.select([self._socket], [], [], seconds)[0]:
            return False
        try:
            return bool(self._socket.recv(MIB))
        except OSError:
            return False
