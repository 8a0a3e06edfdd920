"""The commands with PostgreSQL instead of SQLite: one variable, and nothing else, is different."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from app.database import Database
from app.storage import LocalStorage
from app.tables import Job
from tests.postgresql import own_server

from .factories import built
from .live import environment

Command = Callable[..., str]


@pytest.fixture
def command(postgresql_url: str, tmp_path: Path) -> Command:
    """Runs `cellgraft`, which has to end with this exit code; what it printed."""

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            env=environment(tmp_path, 1, database_url=postgresql_url),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


def test_commands_of_an_administrator(
    command: Command, postgresql_url: str, storage: LocalStorage, tmp_path: Path
) -> None:
    assert "up to date" in command("migrate")
    database = Database(postgresql_url)
    built(database, storage)
    database.close()
    assert "pbmc" in command("references", "list")
    assert command("keys", "create", "lab").startswith("cg_")
    assert "lab" in command("keys", "list")
    assert "agree" in command("fsck")
    card = next(key for key in storage.keys("references") if key.endswith("cells.parquet"))
    storage.delete(card)
    assert f"missing: {card}" in command("fsck", code=1)
    assert not (tmp_path / "cellgraft.db").exists()


def test_a_server_that_comes_up_later_is_waited_for(postgres_programs: Path) -> None:
    with own_server(postgres_programs) as server:
        server.stop()
        database = Database(server.url)
        waiting = threading.Thread(target=database.migrate)
        waiting.start()
        time.sleep(1.5)
        assert waiting.is_alive()
        server.start()  # here, because the server ends with the thread that started it
        waiting.join(20)
        with database.reading() as session:
            assert session.scalars(select(Job)).all() == []
        database.close()


def test_a_server_that_does_not_come_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.database.START_SECONDS", 0)
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Exception, match="Connection refused"):
        database.migrate()
    database.close()
