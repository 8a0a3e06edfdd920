"""The Makefile: its targets, and what it says where something is missing."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from .documents import ROOT, make_targets, text

WANTED = {
    "setup", "setup-dev", "demo", "serve", "test", "check", "parity", "chaos", "fuzz", "bench",
    "fmt", "clean", "help",
}  # fmt: skip

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_targets_are_there_and_told_by_help() -> None:
    assert make_targets() >= WANTED
    told = make("help").stdout
    assert {line.split()[0] for line in told.splitlines()} == WANTED


def test_targets_are_phony() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", text("Makefile"), flags=re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) >= WANTED


@pytest.mark.parametrize("interpreter", ["no-such-python", "false"])
def test_missing_python_is_one_sentence(tmp_path, interpreter: str) -> None:
    done = make("setup", f"VENV={tmp_path / 'venv'}", f"PYTHON={interpreter}")
    assert done.returncode != 0
    assert "Cellgraft needs Python 3.11" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "venv").exists()


def test_missing_venv_module_is_one_sentence(tmp_path) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text('#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\n')
    interpreter.chmod(0o755)
    done = make("setup", f"VENV={tmp_path / 'venv'}", f"PYTHON={interpreter}")
    assert done.returncode != 0
    assert "lacks its venv module" in done.stderr


def test_set_up_is_done_once_and_again_when_dependencies_change(tmp_path) -> None:
    """Asked of make itself: `-q` says whether anything is left to do."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for made in ("bin/python", ".torch-cpu", ".runtime"):
        (venv / made).touch()
    assert make("-q", "setup", f"VENV={venv}").returncode == 0
    assert make("-q", "setup", f"VENV={venv}", "-W", "constraints.txt").returncode == 1
    assert make("-q", "setup", f"VENV={venv}", "-W", "pyproject.toml").returncode == 1


def test_an_environment_for_gpus_stays_one(tmp_path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for made in ("bin/python", ".torch-cuda", ".runtime"):
        (venv / made).touch()
    assert make("-q", "setup", f"VENV={venv}").returncode == 0
    assert make("-q", "setup", f"VENV={venv}", "TORCH=cpu").returncode == 1


def test_ci_runs_what_must_hold() -> None:
    script = text(".ci/run")
    assert "set -euo pipefail" in script
    for target in ("check", "test", "parity"):
        assert f"make {target}\n" in script
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
