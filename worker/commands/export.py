"""export: write a mapping as a model of scvi-tools."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from app.database import Database
from app.exports import ExportWork, describe_export
from app.problems import MalformedRequest, Problem
from app.settings import Settings
from app.storage import open_storage
from app.terminal import told
from worker.orders import MapOrder


def export(
    mapping: Annotated[str, typer.Argument(help="The mapping's id.")],
    out: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
) -> None:
    """Write a finished mapping as a folder that scvi-tools loads as the query model."""
    if out.exists():
        typer.echo(f"{out} exists already: name a folder that does not.", err=True)
        raise typer.Exit(1)
    try:
        _export(Settings(), mapping, out)
    except Problem as problem:
        typer.echo(told(problem), err=True)
        raise typer.Exit(1) from problem


def _export(settings: Settings, mapping: str, out: Path) -> None:
    work = _describe(settings, mapping)
    storage = open_storage(
        settings.storage_url, cache=settings.cache_dir, cache_bytes=settings.cache_bytes
    )
    # Imported here because torch takes seconds, and a mistyped id should not.
    from worker.exporting import export_mapping

    with ExitStack() as lent:
        order = MapOrder(
            mapping_id=work.mapping.mapping_id,
            canonical=lent.enter_context(storage.borrow_folder(work.mapping.canonical_prefix)),
            bundle=lent.enter_context(storage.borrow_folder(work.mapping.reference_prefix)),
            manifest_sha256=work.mapping.manifest_sha256,
            out=out,
            options=work.mapping.options,
            query_facts=work.mapping.query_facts,
            reference_facts=work.mapping.reference_facts,
            threads=settings.threads,
            device="cpu",
        )
        results = lent.enter_context(storage.borrow_folder(work.results_prefix))
        _make(out)
        try:
            made = export_mapping(order, results)
        except BaseException:
            shutil.rmtree(out)
            raise
    typer.echo(f"{out}: a {made.kind} model with the {made.n_cells:,} cells of the query.")
    if made.n_absent_features:
        typer.echo(f"{made.n_absent_features:,} features that the query lacks are zero in it.")
    typer.echo(f"Its batches are in obs[{made.batch_key!r}]. Load it with")
    typer.echo(f"scvi.{made.module}.{made.kind}.load({str(out)!r})")


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise MalformedRequest(
            f"The folder {out} cannot be made: {error.strerror}.",
            fix="Name one in a place that you may write to.",
        ) from error


def _describe(settings: Settings, mapping: str) -> ExportWork:
    database = Database(settings.database_url)
    database.migrate()
    try:
        with database.reading() as session:
            return describe_export(session, mapping)
    finally:
        database.close()
