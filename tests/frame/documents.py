"""Reading the repository's own documents: what they name, so that tests can look it up."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from app.cli import cli
from app.settings import Settings

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"`([^`\n]+)`")
CLIENT_VARIABLES = {"CELLGRAFT_API_KEY"}
"""Read by the client `cellgraft map`, and no setting of the service."""


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_of(markdown: str) -> list[str]:
    """Indented blocks (continued lines joined) and inline code."""
    indented = [line[4:] for line in markdown.splitlines() if line.startswith("    ")]
    blocks = "\n".join(indented).replace("\\\n", " ").splitlines()
    return [*blocks, *FENCE.findall(markdown)]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text("Makefile"), flags=re.MULTILINE))


def setting_names() -> set[str]:
    return {f"CELLGRAFT_{name.upper()}" for name in Settings.model_fields}


@dataclass(frozen=True)
class Call:
    """A command line of `cellgraft`, and the command that it calls."""

    words: list[str]
    command: Any
    """Of click, or of typer's own copy of it."""

    @property
    def options(self) -> set[str]:
        return {word for word in self.words if word.startswith("--")}

    @property
    def known_options(self) -> set[str]:
        return {"--help"}.union(*(parameter.opts for parameter in self.command.params))


def call_of(words: list[str]) -> Call:
    """Follow the words into the command tree; raises KeyError where there is no such command."""
    command: Any = typer.main.get_command(cli)
    rest = list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    return Call(rest, command)


def calls_in(lines: list[str]) -> list[list[str]]:
    """The words after `cellgraft` of each line that calls it with a command."""
    found = []
    for line in lines:
        words = shlex.split(line.split("  #")[0]) if line.startswith(("cellgraft ", "$ ")) else []
        if len(words) > 1 and words[0] == "cellgraft" and not words[1].isupper():
            found.append(words[1:])
    return found
