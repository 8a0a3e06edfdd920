"""build: make a reference from a local file, without a running service."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from app.bell import PollingBell
from app.commands.surroundings import (
    ArchitectureOptions,
    ConditionKey,
    KindOption,
    NoRecipeSearch,
    Pretraining,
    ProteinsKey,
    RefuseBelow,
    TopRegions,
    UnlabeledCategory,
    WarnBelow,
)
from app.jobs import claim_next, fail_job
from app.keys import LOCAL_OWNER
from app.licences import check_terms
from app.logs import set_up_logs
from app.problems import Problem, WorkerLost
from app.queries import create_query
from app.references import submit_build
from app.settings import Settings
from app.staging import stage_local_file
from app.tables import ReferenceVersion
from app.terminal import told
from worker.commands.opening import Opened, open_worker
from worker.commands.watching import Watch

INTERRUPTED_EXIT = 130

Many = list[str] | None


def build(
    file: Annotated[Path, typer.Argument(help="An h5ad with raw counts.")],
    *,
    name: Annotated[str, typer.Option(help="The reference's name.")],
    kind: KindOption = "SCVI",
    batch_key: Annotated[str | None, typer.Option(help="obs column of the batches.")] = None,
    labels_key: Annotated[Many, typer.Option(help="obs column of labels; repeatable.")] = None,
    unlabeled_category: UnlabeledCategory = None,
    pretraining: Pretraining = False,
    n_top_genes: Annotated[int | None, typer.Option(help="Most variable genes kept.")] = None,
    n_top_regions: TopRegions = None,
    genes: Annotated[Path | None, typer.Option(help="A gene (or peak) a line, instead.")] = None,
    max_epochs: Annotated[int | None, typer.Option(min=1)] = None,
    no_recipe_search: NoRecipeSearch = False,
    condition_key: ConditionKey = None,
    seed: Annotated[int, typer.Option()] = 0,
    set_: ArchitectureOptions = None,
    extra_categorical: Annotated[Many, typer.Option(help="obs column; repeatable.")] = None,
    continuous: Annotated[Many, typer.Option(help="obs column; repeatable.")] = None,
    size_factor_key: Annotated[str | None, typer.Option(help="obs column.")] = None,
    depth_key: Annotated[str | None, typer.Option(help="MULTIVI: obs column, 0 to 1.")] = None,
    layer: Annotated[str | None, typer.Option(help="layers/NAME or raw/X; default X.")] = None,
    proteins_key: ProteinsKey = None,
    licence: Annotated[str | None, typer.Option(help="SPDX identifier.")] = None,
    citation: Annotated[str | None, typer.Option()] = None,
    species: Annotated[str | None, typer.Option()] = None,
    refuse_below: RefuseBelow = None,
    warn_below: WarnBelow = None,
) -> None:
    """Train a reference from a file, and register it as the next version of its name."""
    options: dict[str, Any] = {
        "kind": kind,
        "batch_key": batch_key,
        "labels_keys": labels_key or [],
        "unlabeled_category": unlabeled_category,
        "pretraining": pretraining,
        "genes": _read_genes(genes),
        **_numbers(n_top_genes=n_top_genes, n_top_regions=n_top_regions),
        "extra_categorical": extra_categorical or [],
        "continuous": continuous or [],
        "size_factor_key": size_factor_key,
        "depth_key": depth_key,
        "architecture": _architecture(set_ or []),
        "max_epochs": max_epochs,
        "recipe_search": "off" if no_recipe_search else "auto",
        "condition_key": condition_key,
        "seed": seed,
        "licence": licence,
        "citation": citation,
        "species": species,
        "refuse_below": refuse_below,
        "warn_below": warn_below,
        "layer": layer,
        "proteins_key": proteins_key,
    }
    raise typer.Exit(_build(file, name, options))


def _build(file: Path, name: str, options: dict[str, Any]) -> int:
    settings = Settings()
    set_up_logs("warning")
    if not file.is_file():
        typer.echo(f"There is no file {file}.", err=True)
        return 1
    opened = open_worker(settings)
    try:
        watch = _submit(opened, file, name, options, settings)
        _work(opened, watch)
        return watch.tell_outcome()
    except Problem as problem:
        typer.echo(told(problem), err=True)
        return 1
    finally:
        opened.database.close()


def _submit(
    opened: Opened, file: Path, name: str, options: dict[str, Any], settings: Settings
) -> Watch:
    """Take the file in as a query of the local owner; it stays, as the build's provenance."""
    check_terms(options)
    staged = stage_local_file(opened.staging, file, settings.disk_reserve_bytes)
    continuous = options["architecture"].get("likelihood") == "normal"
    with opened.database.writing() as session:
        query = create_query(
            session,
            PollingBell(),
            owner=LOCAL_OWNER,
            staged=staged,
            storage=opened.storage,
            filename=file.name,
            options={
                "layer": options["layer"],
                "proteins_key": options["proteins_key"],
                "input": "continuous" if continuous else "counts",
            },
            max_attempts=settings.max_attempts,
        )
        version: ReferenceVersion = submit_build(
            session,
            PollingBell(),
            owner=LOCAL_OWNER,
            name=name,
            query_id=query.id,
            options=options,
            max_attempts=settings.max_attempts,
        )
    return Watch(opened.database, check=query.job_id, build=version.job_id, version_id=version.id)


def _work(opened: Opened, watch: Watch) -> None:
    parent = opened.parent(only=watch.job_ids)
    interrupted: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        interrupted.append(number)
        parent.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with watch:
        parent.run(until=watch.is_over)
    if interrupted:
        _give_up(opened, watch, parent.name)
        typer.echo("The build was interrupted; nothing was registered.", err=True)
        raise typer.Exit(INTERRUPTED_EXIT)


def _give_up(opened: Opened, watch: Watch, worker: str) -> None:
    """End what a stopped parent gave back, or the next service would go on with it."""
    lost = WorkerLost("The build was interrupted at the keyboard.", fix="Start it again.")
    with opened.database.writing() as session:
        while claim := claim_next(
            session,
            worker=worker,
            kinds=("check", "build"),
            lease_seconds=opened.timing.lease_seconds,
            only=watch.job_ids,
        ):
            fail_job(session, claim, lost)


def _numbers(**given: int | None) -> dict[str, int]:
    """Those that were said: the others have defaults of their own."""
    return {name: number for name, number in given.items() if number is not None}


def _read_genes(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]


def _architecture(settings: list[str]) -> dict[str, Any]:
    """`n_latent=20` as an override of the architecture; values are JSON where they can be."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"{setting!r} is not of the form n_latent=20")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
