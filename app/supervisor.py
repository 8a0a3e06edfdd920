"""`cellgraft serve`: the API and a worker as two processes, restarted when they die.

This process holds neither torch nor a web framework: it must outlive whatever goes wrong in them.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from app.parent_death import die_with_parent
from app.settings import Settings

REFUSED_EXIT = 78
"""EX_CONFIG: a child that says so would only say it again."""
STOP_SECONDS = 20.0
STEADY_SECONDS = 60.0
MAX_BACK_OFF_SECONDS = 30.0


class PortBusy(Exception):
    """Something else listens where the API should."""


@dataclass
class Child:
    """A process that is started again, ever more patiently, until it runs steadily."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    back_off: float = 0.5
    start_at: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        # The children get a signal when this process ends, even by kill -9.
        self.process = subprocess.Popen(
            list(self.command),
            preexec_fn=partial(die_with_parent, signal.SIGTERM, parent=os.getpid()),
        )
        self.started = time.monotonic()

    def tend(self) -> int | None:
        """Start it when it is time to. The exit code when it has just ended."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.start_at:
                self.start()
            return None
        code = self.process.poll()
        if code is None:
            return None
        self.process = None
        if now - self.started > STEADY_SECONDS:
            self.back_off = 0.5
        self.start_at = now + self.back_off
        self.back_off = min(self.back_off * 2, MAX_BACK_OFF_SECONDS)
        return code


class Supervisor:
    def __init__(self, settings: Settings, *, ready_file: Path | None = None) -> None:
        self.settings = settings
        self.ready_file = ready_file
        self.children = [
            Child("API", [sys.executable, "-m", "app.cli", "api"]),
            Child("worker", [sys.executable, "-m", "worker", "run"]),
        ]
        self.announced = False
        self.stopping = False

    def run(self) -> int:
        check_port(self.settings.host, self.settings.port)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            code = self._tend_all()
        finally:
            self._stop_all()
            if self.ready_file is not None:
                self.ready_file.unlink(missing_ok=True)
        return code

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _tend_all(self) -> int:
        while not self.stopping:
            for child in self.children:
                code = child.tend()
                if code == REFUSED_EXIT:
                    return 1
                if code is not None and not self.stopping:
                    _warn(f"The {child.name} ended ({_how(code)}); starting it again.")
            if not self.announced and _answers(self.settings):
                self._announce()
            time.sleep(0.1)
        return 0

    def _announce(self) -> None:
        self.announced = True
        url = url_of(self.settings)
        if self.ready_file is not None:
            beside = self.ready_file.with_name(f"{self.ready_file.name}.part")
            beside.write_text(f"{url}\n")
            beside.replace(self.ready_file)
        _say(f"Cellgraft is ready at {url}")

    def _stop_all(self) -> None:
        running = [child.process for child in self.children if child.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def check_port(host: str, port: int) -> None:
    """Fail with one plain sentence now, rather than with a stack of restarts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise PortBusy(f"Cannot listen on {host}: {error.strerror}.") from error
            raise PortBusy(
                f"Port {port} on {host} is already in use: stop what listens there, or choose "
                "another with --port."
            ) from error


def url_of(settings: Settings) -> str:
    """Where this machine reaches the service; an unspecified address listens on loopback too."""
    host = settings.host
    address = ipaddress.ip_address(host) if re.fullmatch(r"[0-9a-fA-F:.]+", host) else None
    if address is not None and address.is_unspecified:
        host = "::1" if address.version == 6 else "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _answers(settings: Settings) -> bool:
    host = url_of(settings).removeprefix("http://").rpartition(":")[0].strip("[]")
    connection = http.client.HTTPConnection(host, settings.port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _warn(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
