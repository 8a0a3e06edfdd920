"""import: make a reference of a model that scvi-tools saved, whose network stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app.commands.surroundings import NoRecipeSearch, RefuseBelow, WarnBelow
from app.database import Database
from app.imports import import_prefix, register_import
from app.keys import LOCAL_OWNER
from app.logs import set_up_logs
from app.problems import MalformedRequest, Problem
from app.references import next_version
from app.settings import Settings
from app.storage import open_storage
from app.tables import new_id
from app.terminal import printable, told

if TYPE_CHECKING:
    from worker.imports.order import ImportOptions, ImportOrder, Report

Many = list[str] | None


def import_(
    path: Annotated[str, typer.Argument(help="A folder, a model.pt, or hf://owner/name.")],
    *,
    name: Annotated[str, typer.Option(help="The reference's name.")],
    prefix: Annotated[str | None, typer.Option(help="What stands before model.pt.")] = None,
    cells: Annotated[Path | None, typer.Option(help="An h5ad of the reference's cells.")] = None,
    no_cells: Annotated[bool, typer.Option("--no-cells", help="Leave cells out.")] = False,
    latent_key: Annotated[str | None, typer.Option(help="Latents in obsm.")] = None,
    labels_key: Annotated[Many, typer.Option(help="obs column of labels; repeatable.")] = None,
    umap_key: Annotated[str | None, typer.Option(help="A UMAP in obsm.")] = None,
    batch_key: Annotated[str | None, typer.Option(help="obs column of the batches.")] = None,
    layer: Annotated[str | None, typer.Option(help="layers/NAME or raw/X.")] = None,
    no_recipe_search: NoRecipeSearch = False,
    licence: Annotated[str | None, typer.Option(help="SPDX identifier.")] = None,
    citation: Annotated[str | None, typer.Option()] = None,
    species: Annotated[str | None, typer.Option()] = None,
    refuse_below: RefuseBelow = None,
    warn_below: WarnBelow = None,
) -> None:
    """Import a saved SCVI or SCANVI model, and register it as the next version of its name."""
    from worker.imports.order import CellOptions, ImportOptions

    options = ImportOptions(
        name=name,
        cells=CellOptions(
            path=cells,
            left_out=no_cells,
            latent_key=latent_key,
            labels_keys=tuple(labels_key or ()),
            umap_key=umap_key,
            batch_key=batch_key,
            layer=layer,
        ),
        licence=licence,
        citation=citation,
        species=species,
        refuse_below=refuse_below,
        warn_below=warn_below,
        recipe_search="off" if no_recipe_search else "auto",
    )
    set_up_logs("warning")
    try:
        _import(Settings(), path, prefix, options)
    except Problem as problem:
        typer.echo(told(problem), err=True)
        raise typer.Exit(1) from problem


def _import(settings: Settings, path: str, prefix: str | None, options: ImportOptions) -> None:
    database = Database(settings.database_url)
    database.migrate()
    scratch = settings.staging_dir / f"import-{new_id()}"
    scratch.mkdir(parents=True)
    try:
        number = partial(_number, database, options.name)
        number()  # a name that cannot be is told at once
        order = _order(settings, path, prefix, options, scratch)
        _run(settings, database, order, number)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        database.close()


def _number(database: Database, name: str) -> int:
    with database.reading() as session:
        return next_version(session, name)


def _order(
    settings: Settings, path: str, prefix: str | None, options: ImportOptions, scratch: Path
) -> ImportOrder:
    from worker.imports.files import find_save
    from worker.imports.hub import fetch, is_hub_address
    from worker.imports.order import ImportOrder
    from worker.intake.limits import Limits
    from worker.layers import find_layers, require, warn

    layers = require(find_layers(), settings.sandbox)
    warn(layers)
    wanted = options.cells
    if wanted.path is not None and not wanted.path.is_file():
        raise MalformedRequest(f"There is no file {wanted.path}.", fix="Name an h5ad with --cells.")
    place, source = Path(path), Path(path).name
    if is_hub_address(path):
        beside = wanted.path is None and not wanted.left_out
        fetched = fetch(path, scratch / "hub", cells=beside)
        place, source = fetched.folder, f"hf://{fetched.repository}@{fetched.revision}"
    out = scratch / "bundle"
    out.mkdir()
    return ImportOrder(
        found=find_save(place, prefix=prefix),
        source=source,
        options=options,
        scratch=scratch,
        out=out,
        layers=layers,
        threads=settings.threads,
        limits=Limits(
            memory_bytes=settings.intake_memory_bytes,
            cpu_seconds=24 * 3600,
            output_bytes=shutil.disk_usage(scratch).free,
        ),
    )


def _run(settings: Settings, database: Database, order: ImportOrder, number: Any) -> None:
    from worker.imports.reference import run_import
    from worker.imports.telling import tell

    with _progress() as report:
        imported = run_import(order, number, report)
        manifest = imported.manifest
        storage = open_storage(
            settings.storage_url, cache=settings.cache_dir, cache_bytes=settings.cache_bytes
        )
        report("registering", 0.98)
        where = import_prefix(manifest.name, manifest.version)
        storage.publish_folder(order.out, where)
        with database.writing() as session:
            register_import(
                session,
                storage,
                owner=LOCAL_OWNER,
                prefix=where,
                manifest=manifest.model_dump(mode="json"),
                options={"import": order.source, **order.options.as_dict()},
            )
        report("done", 1.0)
    for sentence in tell(imported):
        typer.echo(printable(sentence))


@contextmanager
def _progress() -> Iterator[Report]:
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("importing", total=1.0)
        yield lambda stage, share: bar.update(task, description=stage, completed=share)
