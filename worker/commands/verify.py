"""verify: prove that a reference version is what it was on the day it was made."""

from __future__ import annotations

from typing import Annotated

import typer

from app.database import Database
from app.keys import LOCAL_ADMINISTRATOR
from app.problems import Problem
from app.references import find_usable_version
from app.settings import Settings
from app.storage import open_storage


def verify(
    name: Annotated[str, typer.Argument(help="The reference's name.")],
    version: Annotated[int | None, typer.Argument(help="Newest ready one if left out.")] = None,
) -> None:
    """Check every file against the manifest, load the network, and map its probe cells."""
    from models_store.bundle import InvalidBundle, verify_bundle

    settings = Settings()
    try:
        prefix, number = _find(settings, name, version)
        storage = open_storage(
            settings.storage_url, cache=settings.cache_dir, cache_bytes=settings.cache_bytes
        )
        with storage.borrow_folder(prefix) as folder:
            manifest = verify_bundle(folder)
    except Problem as problem:
        typer.echo(f"{problem.title} {problem.detail}\n{problem.fix}", err=True)
        raise typer.Exit(1) from problem
    except InvalidBundle as damage:
        typer.echo(f"{name}@{number} is damaged: {damage}. Restore it or build it again.", err=True)
        raise typer.Exit(1) from damage
    typer.echo(f"{name}@{manifest.version}: {len(manifest.files)} files as they were made;")
    typer.echo("the network loads, and padded probe cells map where they mapped then.")
    if not manifest.surgery_has_effect:
        typer.echo("Its encoder does not see the batch: surgery cannot change a latent.")


def _find(settings: Settings, name: str, version: int | None) -> tuple[str, int]:
    database = Database(settings.database_url)
    database.migrate()
    try:
        with database.reading() as session:
            found = find_usable_version(session, name, version, caller=LOCAL_ADMINISTRATOR)
    finally:
        database.close()
    return found.bundle_prefix or "", found.version
