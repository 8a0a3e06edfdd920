"""migrate and fsck."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from app.commands.surroundings import DataDir, open_database, settings_from
from app.database import Database
from app.fsck import (
    IN_FLIGHT_SECONDS,
    Finding,
    check_everything,
    expected_files,
    in_flight,
    repair,
)
from app.presence import alone
from app.settings import Settings
from app.storage import Storage, open_storage
from app.workers import ALIVE_SECONDS, workers_seen

STOP = f"Stop the service, wait {ALIVE_SECONDS} seconds, and run `cellgraft fsck --repair` again."


def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to this version's tables."""
    open_database(settings_from(data_dir=data_dir))
    typer.echo("The database is up to date.")


def fsck(
    repair_: Annotated[
        bool,
        typer.Option(
            "--repair", help="Remove files that no row speaks of; needs a stopped service."
        ),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Compare rows, files and digests; exit code 1 when something is wrong.

    On a running service, files on their way in or out may look like orphans for a moment.
    """
    settings = settings_from(data_dir=data_dir)
    database = open_database(settings)
    storage = open_storage(
        settings.storage_url, cache=settings.cache_dir, cache_bytes=settings.cache_bytes
    )
    left = _repair(settings, database, storage) if repair_ else _examine(database, storage)
    if left:
        raise typer.Exit(1)
    typer.echo("Rows and files agree.")


def _examine(database: Database, storage: Storage) -> list[Finding]:
    with database.reading() as session, Console(stderr=True).status("reading ...") as status:
        findings = check_everything(
            session, storage, tell=lambda key: status.update(f"reading {key}")
        )
    for finding in findings:
        typer.echo(f"{finding.kind}: {finding.key}: {finding.detail}")
    return findings


def _repair(settings: Settings, database: Database, storage: Storage) -> list[Finding]:
    """Remove orphans, where nobody is at work: a file is stored before its row is committed."""
    with alone(settings.data_dir) as no_api:
        if not no_api:
            _refuse("An API serves this data folder.", STOP)
        with database.reading() as session:
            if workers_seen(session, within_seconds=ALIVE_SECONDS):
                _refuse(f"A worker was alive less than {ALIVE_SECONDS} seconds ago.", STOP)
        return _remove_orphans(database, storage, is_shared=settings.is_shared)


def _remove_orphans(database: Database, storage: Storage, *, is_shared: bool) -> list[Finding]:
    """What is left. APIs elsewhere hold no lock here: what they may be storing is spared."""
    began = storage.clock()
    findings = _examine(database, storage)
    if is_shared and findings:
        _check_database(database, findings)
    spared = in_flight(storage, findings, began=began) if is_shared else []
    removed = repair(storage, [finding for finding in findings if finding not in spared])
    typer.echo(f"Removed {removed} orphans.")
    if spared:
        typer.echo(
            f"Kept {len(spared)} that are younger than {IN_FLIGHT_SECONDS // 3600} hours: an API "
            "elsewhere may be about to record them. Run it again tomorrow."
        )
    return [finding for finding in findings if finding.kind != "orphan" or finding in spared]


def _check_database(database: Database, findings: list[Finding]) -> None:
    """Beside an empty database every file is an orphan: its URL is wrong, or the store's."""
    with database.reading() as session:
        if next(expected_files(session), None) is None:
            _refuse(
                f"The database speaks of no file, and the store holds {len(findings)}.",
                "Check CELLGRAFT_DATABASE_URL and CELLGRAFT_STORAGE_URL. If they are right, remove "
                "the files by the store's own means.",
            )


def _refuse(because: str, then: str) -> None:
    typer.echo(f"Nothing was repaired: {because}\n{then}", err=True)
    raise typer.Exit(1)
