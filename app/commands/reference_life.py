"""references: deprecate, withdraw, alias."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from app.aliases import remove_alias, set_alias
from app.commands.surroundings import DataDir, open_database, settings_from
from app.keys import LOCAL_OWNER
from app.retirement import Retired, retire_version

Name = Annotated[str, typer.Argument(help="The reference's name.")]
Version = Annotated[int, typer.Argument(help="Which version.")]
Reason = Annotated[str, typer.Option(help="What everybody who used it is told.")]
Successor = Annotated[str | None, typer.Option(help="NAME@VERSION to use instead.")]


def deprecate(
    name: Name,
    version: Version,
    *,
    reason: Reason,
    successor: Successor = None,
    data_dir: DataDir = None,
) -> None:
    """Let a version map on, but warn everybody who uses it; it is the default no more."""
    _retire(data_dir, name, version, "deprecated", reason, successor)


def withdraw(
    name: Name,
    version: Version,
    *,
    reason: Reason,
    successor: Successor = None,
    data_dir: DataDir = None,
) -> None:
    """Refuse new mappings onto a version; results that were made with it stay."""
    _retire(data_dir, name, version, "withdrawn", reason, successor)


def alias(
    name: Name,
    alias: Annotated[str, typer.Argument(help="As `stable` in NAME@stable; no number.")],
    version: Annotated[int | None, typer.Argument(help="The version that it is to name.")] = None,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Take the alias away.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Let NAME@ALIAS name a version from now on; mappings that were made keep theirs."""
    if remove == (version is not None):
        raise typer.BadParameter("give a version, or --remove")
    database = open_database(settings_from(data_dir=data_dir))
    if version is None:
        database.write(partial(remove_alias, name=name, alias=alias, by=LOCAL_OWNER))
        typer.echo(f"{name}@{alias} is no alias any more.")
        return
    change = partial(set_alias, name=name, alias=alias, version=version, by=LOCAL_OWNER)
    previous = database.write(change)
    before = "" if previous is None else f"; before, it named version {previous}"
    typer.echo(f"{name}@{alias} names version {version}{before}.")


def _retire(
    data_dir: Path | None,
    name: str,
    version: int,
    to: Retired,
    reason: str,
    successor: str | None,
) -> None:
    open_database(settings_from(data_dir=data_dir)).write(
        partial(
            retire_version,
            name=name,
            version=version,
            to=to,
            reason=reason,
            successor=successor,
            by=LOCAL_OWNER,
        )
    )
    typer.echo(f"{name} version {version} is {to}.")
