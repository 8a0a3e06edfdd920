"""mappings: export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.commands.surroundings import DataDir, become_worker, settings_from

commands = typer.Typer(help="Take mappings elsewhere.", no_args_is_help=True)


class Format(StrEnum):
    SCVI_TOOLS = "scvi-tools"


@commands.callback()
def group() -> None:
    """Take mappings elsewhere."""


@commands.command()
def export(
    mapping: Annotated[str, typer.Argument(help="The mapping's id.")],
    out: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    *,
    format_: Annotated[
        Format, typer.Option("--format", help="What is to read it.")
    ] = Format.SCVI_TOOLS,
    data_dir: DataDir = None,
) -> None:
    """Write a finished mapping as a folder that scvi-tools 1.4.2 loads as the query model."""
    settings_from(data_dir=data_dir)
    become_worker("export", mapping, str(out))
