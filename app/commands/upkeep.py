"""migrate and fsck."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from app.commands.surroundings import DataDir, settings_from
from app.database import Database
from app.fsck import check_everything, repair
from app.storage import open_storage


def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to this version's tables."""
    Database(settings_from(data_dir=data_dir).database_url).migrate()
    typer.echo("The database is up to date.")


def fsck(
    repair_: Annotated[
        bool, typer.Option("--repair", help="Remove files that no row speaks of.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Compare rows, files and digests; exit code 1 when something is wrong.

    Uploads that arrive meanwhile look like orphans: repair only while the service is stopped.
    """
    settings = settings_from(data_dir=data_dir)
    database = Database(settings.database_url)
    database.migrate()
    storage = open_storage(settings.storage_url)
    console = Console(stderr=True)
    with database.reading() as session, console.status("reading ...") as status:
        findings = check_everything(
            session, storage, tell=lambda key: status.update(f"reading {key}")
        )
    for finding in findings:
        typer.echo(f"{finding.kind}: {finding.key}: {finding.detail}")
    left = [finding for finding in findings if finding.kind != "orphan"]
    if repair_:
        typer.echo(f"Removed {repair(storage, findings)} orphans.")
    else:
        left = findings
    if left:
        raise typer.Exit(1)
    typer.echo("Rows and files agree.")
