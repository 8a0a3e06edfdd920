"""The Dockerfile: whatever it names exists, and known mistakes are not made."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib

import pytest

from .deployment import health_command, last, lineage, stages, tool
from .documents import ROOT, call_of, text

TARGETS = ("api", "worker")
BUILDS = ("build-api", "build-worker", "build-cellgraft")


def test_hadolint_finds_nothing() -> None:
    found = subprocess.run(
        [tool("hadolint"), "--failure-threshold", "style", "Dockerfile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


def test_base_images_are_pinned() -> None:
    known = stages()
    origins = [origin for origin, _ in known.values() if origin not in known]
    assert origins
    for origin in origins:
        assert re.search(r":\d+\.\d+\.\d+-|@sha256:", origin), origin


@pytest.mark.parametrize("target", TARGETS)
def test_targets_end_as_a_plain_user_with_a_health_check(target: str) -> None:
    users = [argument for name, argument in lineage(target) if name == "USER"]
    assert users == ["10001:10001"]
    assert "--uid 10001" in " ".join(argument for _, argument in lineage(target))
    assert health_command(target)


@pytest.mark.parametrize("target", TARGETS)
def test_commands_exist_and_are_lists(target: str) -> None:
    program, *words = json.loads(last(target, "CMD"))
    assert program == "cellgraft"
    assert call_of(words).command.name == target


def test_the_api_image_has_no_compute_side() -> None:
    copied = [argument for name, argument in lineage("api") if name == "COPY"]
    assert copied == ["--from=build-api /opt/cellgraft /opt/cellgraft"]
    installed = [argument for name, argument in lineage("build-api") if name == "RUN"]
    assert not any("torch" in argument or "worker" in argument for argument in installed)


def test_each_build_installs_what_pyproject_says() -> None:
    """The lines that read pyproject.toml are run, and give the requirements of their target."""
    project = tomllib.loads(text("pyproject.toml"))["project"]
    wanted = {
        "build-api": project["dependencies"],
        "build-worker": project["optional-dependencies"]["worker"],
    }
    for stage, needed in wanted.items():
        (line,) = [argument for name, argument in stages()[stage][1] if name == "RUN"]
        (code,) = re.findall(r'python -c "([^"]*)"', line)
        told = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert told.stdout.splitlines() == needed
        assert "-c constraints.txt" in line


def test_torch_comes_from_the_index_that_is_asked_for() -> None:
    (line,) = [argument for name, argument in stages()["build-worker"][1] if name == "RUN"]
    assert 'PIP_INDEX_URL="$TORCH_INDEX" pip install' in line
    (default,) = [argument for name, argument in stages()["build-worker"][1] if name == "ARG"]
    assert default == "TORCH_INDEX=https://download.pytorch.org/whl/cpu"


@pytest.mark.parametrize("stage", BUILDS)
def test_copied_files_exist_and_are_let_through(stage: str) -> None:
    allowed = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    for name, argument in stages()[stage][1]:
        if name == "COPY":
            for source in argument.split()[:-1]:
                assert (ROOT / source).exists()
                assert source in allowed


def test_the_package_is_built_from_everything_in_it() -> None:
    own = stages()["build-cellgraft"][1]
    copied = " ".join(argument for name, argument in own if name == "COPY").split()
    packages = tomllib.loads(text("pyproject.toml"))["tool"]["setuptools"]["packages"]["find"]
    for needed in ("pyproject.toml", "README.md", "LICENSE", *packages["include"]):
        assert needed.rstrip("*") in copied
