"""references: deprecate, withdraw, alias, visibility."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from app.aliases import remove_alias, set_alias
from app.commands.surroundings import DataDir, open_database, settings_from
from app.keys import LOCAL_ADMINISTRATOR, LOCAL_OWNER
from app.references import check_known
from app.restrictions import restrict
from app.retirement import Retired, retire_version
from app.visibility import Cells, visibility_of

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


def visibility(
    name: Name,
    *,
    owners: Annotated[str | None, typer.Option(help="Who sees it, as lab-a,lab-b.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Everybody sees it.")] = False,
    cells: Annotated[
        str | None, typer.Option(help="Who gets cells.parquet: open, admin, or as lab-a,lab-b.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Say who sees a reference and its cells; without options, show it."""
    if public and owners is not None:
        raise typer.BadParameter("--public and --owners exclude each other")
    database = open_database(settings_from(data_dir=data_dir))
    with database.reading() as session:
        check_known(session, name, caller=LOCAL_ADMINISTRATOR)
        found = visibility_of(session, name)
    if public or owners is not None:
        found = replace(found, owners=None if owners is None else _listed(owners))
    if cells is not None:
        found = replace(found, cells=_cells(cells))
    if public or owners is not None or cells is not None:
        database.write(partial(restrict, name=name, wanted=found, by=LOCAL_OWNER))
    seen = "everybody" if found.owners is None else ", ".join(["administrators", *found.owners])
    shown = found.cells if isinstance(found.cells, str) else ", ".join(["admin", *found.cells])
    typer.echo(f"{name} is seen by {seen}; its cells: {shown}.")


def _cells(given: str) -> Cells:
    if given == "open":
        return "open"
    return "admin" if given == "admin" else _listed(given)


def _listed(given: str) -> list[str]:
    return [owner.strip() for owner in given.split(",") if owner.strip()]


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
