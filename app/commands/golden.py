"""references golden: add, list, remove."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from app.commands.surroundings import DataDir, open_database, settings_from
from app.golden import add_golden, goldens_of, remove_golden
from app.keys import LOCAL_ADMINISTRATOR
from app.problems import MalformedRequest
from app.references import find_version
from app.staging import stage_local_file
from app.storage import open_storage

commands = typer.Typer(
    help="Queries with which `references verify` proves a version again.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="The reference's name.")]
Version = Annotated[int, typer.Argument(help="Which version.")]
USUAL_AGREEMENT = 0.8


@commands.command()
def add(
    name: Name,
    version: Version,
    file: Annotated[Path, typer.Argument(help="An h5ad.")],
    *,
    expect: Annotated[Literal["pass", "fail"], typer.Option(help="It must map, or be refused.")],
    batch_key: Annotated[
        list[str] | None, typer.Option(help="obs column of the batches; repeatable.")
    ] = None,
    labels_key: Annotated[
        str | None, typer.Option(help="obs column of labels that must be found again.")
    ] = None,
    min_agreement: Annotated[
        float | None, typer.Option(help="Share of labels to be found, 0 to 1.", show_default="0.8")
    ] = None,
    problem: Annotated[
        str | None, typer.Option(help="With what it must be refused; default: as the first time.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="layers/NAME or raw/X; default X.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Keep a query beside a version, with what must come of mapping it."""
    settings = settings_from(data_dir=data_dir)
    if not file.is_file():
        raise MalformedRequest(f"There is no file {file}.", fix="Name an h5ad.")
    if labels_key is not None and expect == "pass" and min_agreement is None:
        min_agreement = USUAL_AGREEMENT
    settings.staging_dir.mkdir(parents=True, exist_ok=True)
    staged = stage_local_file(settings.staging_dir, file, settings.disk_reserve_bytes)
    try:
        golden = add_golden(
            open_database(settings),
            open_storage(
                settings.storage_url, cache=settings.cache_dir, cache_bytes=settings.cache_bytes
            ),
            name=name,
            version=version,
            staged=staged,
            filename=file.name,
            expect=expect,
            options={"batch_key": batch_key, "labels_key": labels_key, "layer": layer},
            min_agreement=min_agreement,
            problem_type=problem,
        )
    finally:
        staged.path.unlink(missing_ok=True)
    typer.echo(f"Golden query {golden.id}; `cellgraft references verify {name} {version}` maps it.")


@commands.command("list")
def list_(name: Name, version: Version, data_dir: DataDir = None) -> None:
    """The golden queries of a version."""
    table = Table("id", "file", "must", "labels", "agreement", "ran on")
    with open_database(settings_from(data_dir=data_dir)).reading() as session:
        found = find_version(session, name, version, caller=LOCAL_ADMINISTRATOR)
        for golden in goldens_of(session, found):
            refused = f"be refused ({golden.problem_type or 'not run yet'})"
            least = "" if golden.min_agreement is None else f"{golden.min_agreement:g}"
            table.add_row(
                golden.id,
                golden.filename,
                "map" if golden.expect == "pass" else refused,
                golden.options.get("labels_key"),
                least,
                ", ".join(golden.latents),
            )
    Console().print(table)


@commands.command()
def remove(
    golden_id: Annotated[str, typer.Argument(help="As `list` shows it.")],
    data_dir: DataDir = None,
) -> None:
    """Forget a golden query and its files."""
    settings = settings_from(data_dir=data_dir)
    prefix = open_database(settings).write(partial(remove_golden, golden_id=golden_id))
    storage = open_storage(
        settings.storage_url, cache=settings.cache_dir, cache_bytes=settings.cache_bytes
    )
    storage.delete(prefix)
    typer.echo(f"Golden query {golden_id} is forgotten.")
