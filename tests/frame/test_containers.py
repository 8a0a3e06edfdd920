"""Dockerfile and docker-compose.yml: whatever they name exists, and known mistakes are not made."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest
import yaml

from .documents import ROOT, call_of, setting_names, text

Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    """Each instruction of the Dockerfile with its argument, continued lines joined."""
    lines = [line for line in text("Dockerfile").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def stages() -> dict[str, tuple[str, list[Instruction]]]:
    """Each stage by name: what it is made from, and its instructions."""
    found: dict[str, tuple[str, list[Instruction]]] = {}
    name = ""
    for instruction in instructions():
        if instruction[0] == "FROM":
            origin, name = re.fullmatch(r"(\S+) AS (\S+)", instruction[1]).groups()  # type: ignore[union-attr]
            found[name] = (origin, [])
        elif name:
            found[name][1].append(instruction)
    return found


def lineage(target: str) -> list[Instruction]:
    """The instructions of a target and of the stages that it stands on, in order."""
    found: list[Instruction] = []
    while target in stages():
        origin, own = stages()[target]
        found, target = [*own, *found], origin
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(text("docker-compose.yml"))
    return loaded


def test_base_images_are_pinned() -> None:
    known = stages()
    origins = [origin for origin, _ in known.values() if origin not in known]
    assert origins
    for origin in origins:
        assert re.search(r":\d+\.\d+\.\d+-|@sha256:", origin), origin


def test_nothing_is_added_or_latest() -> None:
    assert not [argument for name, argument in instructions() if name == "ADD"]
    assert ":latest" not in text("Dockerfile") + text("docker-compose.yml")


def test_package_lists_are_removed() -> None:
    for name, argument in instructions():
        if name == "RUN" and "apt-get" in argument:
            assert "--no-install-recommends" in argument
            assert "rm -rf /var/lib/apt/lists" in argument


@pytest.mark.parametrize("target", ["api", "worker"])
def test_targets_end_as_a_plain_user_with_a_health_check(target: str) -> None:
    steps = lineage(target)
    users = [argument for name, argument in steps if name == "USER"]
    assert users == ["cellgraft"]
    assert "HEALTHCHECK" in {name for name, _ in steps}


@pytest.mark.parametrize("target", ["api", "worker"])
def test_commands_exist_and_are_lists(target: str) -> None:
    commands = [argument for name, argument in lineage(target) if name == "CMD"]
    program, *words = json.loads(commands[-1])
    assert program == "cellgraft"
    call_of(words)


def test_the_api_image_has_no_compute_side() -> None:
    copied = [argument for name, argument in lineage("api") if name == "COPY"]
    assert copied == ["--from=build-api /opt/cellgraft /opt/cellgraft"]
    installed = [argument for name, argument in stages()["build-api"][1] if name == "RUN"]
    assert not any("torch" in argument or "worker" in argument for argument in installed)


def test_copied_files_exist_and_are_let_through() -> None:
    allowed = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    for name, argument in stages()["build"][1]:
        if name == "COPY":
            for source in argument.split()[:-1]:
                assert (ROOT / source).exists()
                assert source in allowed


def test_everything_that_the_build_reads_is_copied() -> None:
    copied = " ".join(argument for name, argument in stages()["build"][1] if name == "COPY").split()
    for needed in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "app", "worker"):
        assert needed in copied


def test_services_are_built_from_targets_that_exist(compose: dict[str, Any]) -> None:
    arguments = {argument.split("=")[0] for name, argument in instructions() if name == "ARG"}
    for service in compose["services"].values():
        assert service["build"]["target"] in stages()
        assert set(service["build"]["args"]) <= arguments


def test_services_run_commands_that_exist(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        program, *words = service["command"]
        assert program == "cellgraft"
        call = call_of(words)
        assert call.options <= call.known_options


def test_commands_in_the_comments_name_services_and_commands(compose: dict[str, Any]) -> None:
    both = text("docker-compose.yml") + text("README.md")
    found = re.findall(r"docker compose run --rm (\S+) cellgraft ([^\n]*)", both)
    assert found
    for service, line in found:
        assert service in compose["services"]
        call = call_of(shlex.split(line))
        assert call.options <= call.known_options


def test_services_are_set_by_settings(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert set(service["environment"]) <= setting_names()


def test_volumes_are_declared_and_hold_the_data(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        mounts = dict(volume.split(":") for volume in service["volumes"])
        assert set(mounts) <= set(compose["volumes"])
        assert service["environment"]["CELLGRAFT_DATA_DIR"] in mounts.values()


def test_published_ports_are_for_this_machine(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:")
            assert port.endswith(f":{service['environment']['CELLGRAFT_PORT']}")
