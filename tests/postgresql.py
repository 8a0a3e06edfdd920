"""PostgreSQL for the tests: a server that a URL names, or one of our own in a folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import psycopg
from sqlalchemy.engine import make_url

from app.parent_death import die_with_parent

from .app.live import free_port

INSTALLED = Path("/usr/lib/postgresql")
SPEED = ("fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0")
"""For databases that no test wants back after a crash."""
STOPS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Databases:
    """Makes and drops databases on the server of `url`, whose own database stays as it is."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql")

    def create(self, template: str | None = None) -> str:
        """The name of a new database, empty or a copy."""
        name = f"cellgraft_{uuid.uuid4().hex}"
        self._do(f'CREATE DATABASE "{name}" TEMPLATE "{template or "template0"}"')
        return name

    def drop(self, name: str) -> None:
        self._do(f'DROP DATABASE "{name}" WITH (FORCE)')

    def url_of(self, name: str) -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)

    def _do(self, statement: str) -> None:
        url = self._url.render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]


class Server:
    """A server process of our own on a free port of loopback. It refuses to run as root."""

    def __init__(self, programs: Path, folder: Path, options: tuple[str, ...]) -> None:
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._programs, self._folder, self._options = programs, folder, options
        self._process: subprocess.Popen[bytes] | None = None
        # `-A trust`: only loopback is listened on, and nothing in it is secret.
        initdb = [str(programs / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-N"]
        identity = self._identity()
        subprocess.run(
            [*initdb, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            user=identity[0],
            group=identity[1],
        )

    def start(self) -> None:
        settings = ("listen_addresses=127.0.0.1", f"port={self.port}", *self._options)
        flags = [part for setting in settings for part in ("-c", setting)]
        identity = self._identity()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", "data", "-k", str(self._folder), *flags],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                user=identity[0],
                group=identity[1],
                preexec_fn=partial(die_with_parent, signal.SIGINT, parent=os.getpid()),
            )
        self._wait_until_ready()

    def stop(self, how: Literal["fast", "immediate"] = "fast") -> None:
        """`fast` cuts the connections and writes everything down; `immediate` is a crash."""
        assert self._process is not None
        self._process.send_signal(STOPS[how])
        self._process.wait(30)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def _identity(self) -> tuple[int | None, int | None]:
        if os.geteuid() != 0:
            return None, None
        user = pwd.getpwnam("postgres")
        return user.pw_uid, user.pw_gid


@contextmanager
def own_server(programs: Path, *, options: tuple[str, ...] = ()) -> Iterator[Server]:
    """A running server that is gone afterwards, with its folder."""
    folder = Path(tempfile.mkdtemp(prefix="cellgraft-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        server = Server(programs, folder, options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def find_programs() -> Path | None:
    """The folder of `initdb` and `postgres`: on the PATH, or Debian's newest version."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = [path.parent for path in INSTALLED.glob("*/bin/initdb")]
    return max(versions, key=lambda path: float(path.parent.name), default=None)
