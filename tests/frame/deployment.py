"""Reading Dockerfile and compose files as Docker does, without its engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from .documents import ROOT, text

COMPOSE_FILES = ("docker-compose.yml", "compose.embedded.yml")
PASSWORDS = {
    "POSTGRES_PASSWORD": "postgres-secret",
    "REDIS_PASSWORD": "redis-secret",
    "S3_ACCESS_KEY": "store-access",
    "S3_SECRET_KEY": "store-secret",
}
Instruction = tuple[str, str]


def tool(name: str) -> str:
    """A program of this environment's own test tools."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None, f"{name} is not installed: make setup-dev"
    return found


def docker_compose(
    file: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Compose itself, which needs no engine to read a file; `.env` of this checkout stays out."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **variables}
    command = [tool("docker-compose"), "--env-file", os.devnull, "-f", file, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@cache
def services(file: str = "docker-compose.yml") -> dict[str, dict[str, Any]]:
    """The services of all profiles as Compose understands them, with passwords put in."""
    read = docker_compose(file, "--profile", "*", "config", "--format", "json", **PASSWORDS)
    assert read.returncode == 0, read.stderr
    found: dict[str, dict[str, Any]] = json.loads(read.stdout)["services"]
    return found


def ours(file: str = "docker-compose.yml") -> dict[str, dict[str, Any]]:
    """The services that run Cellgraft."""
    return {name: service for name, service in services(file).items() if "build" in service}


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


def last(target: str, name: str) -> str:
    """What the last instruction of this name in a target says."""
    return [argument for instruction, argument in lineage(target) if instruction == name][-1]


def health_command(target: str) -> list[str]:
    """The command of a target's health check."""
    command: list[str] = json.loads(last(target, "HEALTHCHECK").partition("CMD ")[2])
    return command


def seconds(duration: str) -> float:
    """Compose's `1m30s` in seconds."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([\d.]+)([hms])", duration))
