"""tests/servers.sh asks for what is missing, where it may, and leaves nothing behind."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .documents import ROOT, text

TOOLS = ("bash", "chmod", "rm")
ALL = ["postgresql", "redis-server", "nginx-light", "bubblewrap"]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH on which there are no servers, and an apt-get that writes down what it is told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    note = 'echo "$*" >>"$APT_LOG"; [ -x "$SYSTEM_PROGRAMS/policy-rc.d" ] && echo held >>"$APT_LOG"'
    put(folder, "apt-get", note)
    put(folder, "id", "echo 0")
    return folder


def put(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!{folder / 'bash'}\n{script}\n")
    path.chmod(0o755)


def run(programs: Path, **variables: str) -> tuple[list[str], str]:
    """What apt-get was told, and what was printed."""
    log = programs.parent / "apt.log"
    log.unlink(missing_ok=True)
    system = programs.parent / "sbin"
    system.mkdir(exist_ok=True)
    given = {
        "PATH": str(programs),
        "APT_LOG": str(log),
        "SYSTEM_PROGRAMS": str(system),
        "POSTGRES_VERSIONS": str(programs.parent / "none"),
    }
    done = subprocess.run(
        [programs / "bash", ROOT / "tests" / "servers.sh"],
        env={**given, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not [*system.iterdir()]
    return log.read_text().splitlines() if log.exists() else [], done.stdout + done.stderr


def test_what_is_missing_is_installed_and_not_started(programs: Path) -> None:
    told, _ = run(programs)
    assert told[0].startswith("update")
    assert told[2].split()[-4:] == ALL
    assert told.count("held") == 2


def test_what_is_there_is_not_installed(programs: Path) -> None:
    for name in ("redis-server", "nginx", "bwrap"):
        put(programs, name, "exit 1")
    told, _ = run(programs)
    assert told[2].split()[-1] == "postgresql"
    assert "nginx-light" not in told[2]
    assert run(programs, CELLGRAFT_TEST_POSTGRES_URL="postgresql://elsewhere/x") == ([], "")


def test_who_may_not_install_is_told(programs: Path) -> None:
    put(programs, "id", "echo 1000")
    told, printed = run(programs)
    assert told == []
    assert all(name in printed for name in ALL)


def test_make_test_asks_for_them() -> None:
    recipe = text("Makefile").split("\ntest:")[1].split("\n\n")[0]
    assert "tests/servers.sh" in recipe
