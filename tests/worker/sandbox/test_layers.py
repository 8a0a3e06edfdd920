"""Which layer a machine gets, what is said of it, and what `strict` does where there is none."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.supervisor import REFUSED_EXIT
from worker.__main__ import cli
from worker.bubblewrap import Bubblewrap, find_bubblewrap
from worker.commands.doctor import describe
from worker.landlock import NEWEST, Landlock, Rights, find_landlock, newest_that_works
from worker.layers import FIXES, Layers, NoSandbox, find_layers, require, warn
from worker.trial import GIVEN, try_layers

from .conftest import LAYERS, NO_BUBBLEWRAP, NO_LANDLOCK, ROOT, layers_of

NOTHING = Layers(NO_LANDLOCK, NO_BUBBLEWRAP, filtered=False)


def test_each_abi_gives_up_what_it_knows() -> None:
    known = [Rights.of(abi) for abi in range(1, NEWEST + 1)]
    assert [rights.files for rights in known] == [
        *(0x1FFF, 0x3FFF, 0x7FFF, 0x7FFF, 0xFFFF, 0xFFFF, 0xFFFF)
    ]
    assert [rights.tcp for rights in known] == [0, 0, 0, 3, 3, 3, 3]
    assert [rights.scopes for rights in known] == [0, 0, 0, 0, 0, 3, 3]
    assert Rights.of(99) == Rights.of(NEWEST)


def kernel_with(abi: int) -> Callable[[Rights], int]:
    """A kernel that knows the rights of this ABI and no others."""

    def attempt(rights: Rights) -> int:
        known = Rights.of(abi)
        new = rights.files & ~known.files, rights.tcp & ~known.tcp, rights.scopes & ~known.scopes
        return -errno.EINVAL if any(new) else 5

    return attempt


def test_a_kernel_of_the_future_is_taken_as_the_newest_that_is_known() -> None:
    assert newest_that_works(23, kernel_with(23)) == Landlock(NEWEST, 23)


def test_a_kernel_that_claims_too_much_is_taken_for_what_it_can() -> None:
    assert newest_that_works(6, kernel_with(5)) == Landlock(5, 6)
    assert newest_that_works(2, lambda rights: -errno.EPERM) == Landlock(0, 2, "EPERM")


@pytest.mark.parametrize("why", FIXES)
def test_a_kernel_without_says_why(why: str) -> None:
    found = newest_that_works(-getattr(errno, why), kernel_with(7))
    assert found == Landlock(0, 0, why)
    (lack,) = Layers(found, NO_BUBBLEWRAP).lacks
    assert lack.fix.startswith(FIXES[why])
    assert why in lack.what


def test_this_machine_is_asked() -> None:
    found = find_layers()
    assert found.landlock == find_landlock()
    assert found.bubblewrap == Bubblewrap() or not found.landlock.abi


def test_bubblewrap_is_found_by_trying_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho No permissions to create new namespace >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_bubblewrap() == Bubblewrap(why_not="No permissions to create new namespace")
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert find_bubblewrap() == NO_BUBBLEWRAP


def test_strict_refuses_a_machine_without_a_sandbox() -> None:
    with pytest.raises(NoSandbox, match="CELLGRAFT_SANDBOX is strict"):
        require(NOTHING, "strict")
    assert require(NOTHING, "auto") is NOTHING
    wrapped = Layers(NO_LANDLOCK, Bubblewrap("/usr/bin/bwrap"))
    assert require(wrapped, "strict") is wrapped


def test_what_is_missing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn(NOTHING)
    assert len(caplog.messages) == 3
    assert all(message.startswith("SANDBOX INCOMPLETE") for message in caplog.messages)
    caplog.clear()
    warn(Layers(Landlock(7, 7)))
    assert not caplog.messages


def test_the_network_is_open_only_without_filter_and_abi_4() -> None:
    told = {
        (abi, filtered): any(
            "network" in lack.what for lack in Layers(Landlock(abi, abi), filtered=filtered).lacks
        )
        for abi in (3, 4)
        for filtered in (True, False)
    }
    assert [key for key, open_ in told.items() if open_] == [(3, False)]


@pytest.mark.parametrize("name", LAYERS)
def test_a_trial_tells_what_holds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    could = {what for what, done in try_layers(layers_of(name)).items() if done}
    assert could == ({GIVEN, "read another file"} if name == "limits" else {GIVEN})


def test_the_doctor_tells_layer_abi_and_fix() -> None:
    told = "\n".join(describe(Layers(Landlock(5, 6))))
    assert "Landlock: ABI 5" in told
    assert "says 6" in told
    assert "signal" not in told
    told = "\n".join(describe(NOTHING))
    assert "MISSING" in told
    assert "bubblewrap: none (bubblewrap is not installed)" in told
    assert "FIX: Use a kernel with Landlock" in told


def test_the_doctor_tries_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CELLGRAFT_DATA_DIR", str(tmp_path))
    done = CliRunner().invoke(cli, ["doctor"])
    layers = find_layers()
    assert f"TRIED to {GIVEN}: done." in done.output
    assert done.exit_code == (1 if layers.lacks else 0), done.output
    if not layers.lacks:
        assert "TRIED to read another file: refused." in done.output
        assert "Nothing is missing." in done.output


def test_a_strict_worker_on_a_machine_without_a_sandbox_ends_with_one_sentence(
    tmp_path: Path,
) -> None:
    """Its machine is one that a process gets whose calls are filtered as an old container's are."""
    script = (
        "from tests.worker.sandbox.old_container import forbid\n"
        "forbid()\n"
        "from worker.__main__ import main\n"
        "main()\n"
    )
    environment = {
        "PATH": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "CELLGRAFT_DATA_DIR": str(tmp_path / "data"),
        "CELLGRAFT_SANDBOX": "strict",
    }
    done = subprocess.run(
        [sys.executable, "-c", script, "run"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == REFUSED_EXIT, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("CELLGRAFT_SANDBOX is strict, and there is no sandbox here.")
    assert FIXES["EPERM"] in line
