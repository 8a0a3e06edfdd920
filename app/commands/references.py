"""references: build, list, show, verify, remove."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.aliases import aliases_of
from app.commands.surroundings import (
    ArchitectureOptions,
    ConditionKey,
    DataDir,
    KindOption,
    NoRecipeSearch,
    Pretraining,
    ProteinsKey,
    RefuseBelow,
    TopRegions,
    UnlabeledCategory,
    WarnBelow,
    become_worker,
    coverage_bounds,
    open_database,
    option,
    options,
    settings_from,
)
from app.keys import LOCAL_ADMINISTRATOR
from app.references import find_version, list_versions, remove_version
from app.storage import open_storage
from models_store.manifest import BY_GENE

commands = typer.Typer(help="Build and look after references.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The reference's name.")]
Version = Annotated[int | None, typer.Argument(help="Default: the newest ready one.")]
Many = list[str] | None


@commands.command()
def build(
    file: Annotated[Path, typer.Argument(help="An h5ad with raw counts.")],
    *,
    name: Annotated[str, typer.Option(help="Lower-case letters, digits, dots, dashes.")],
    kind: KindOption = "SCVI",
    batch_key: Annotated[str | None, typer.Option(help="obs column of the batches.")] = None,
    labels_key: Annotated[Many, typer.Option(help="obs column of labels; repeatable.")] = None,
    unlabeled_category: UnlabeledCategory = None,
    pretraining: Pretraining = False,
    n_top_genes: Annotated[int | None, typer.Option(help="Most variable genes kept.")] = None,
    n_top_regions: TopRegions = None,
    genes: Annotated[Path | None, typer.Option(help="A gene (or peak) a line, instead.")] = None,
    max_epochs: Annotated[int | None, typer.Option()] = None,
    no_recipe_search: NoRecipeSearch = False,
    condition_key: ConditionKey = None,
    seed: Annotated[int | None, typer.Option()] = None,
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
    data_dir: DataDir = None,
) -> None:
    """Train a reference from a file, and register it as the next version of its name."""
    settings_from(data_dir=data_dir)
    become_worker(
        "build",
        str(file),
        option("--name", name),
        option("--kind", kind),
        option("--batch-key", batch_key),
        options("--labels-key", labels_key),
        option("--unlabeled-category", unlabeled_category),
        ["--pretraining"] if pretraining else [],
        option("--n-top-genes", n_top_genes),
        option("--n-top-regions", n_top_regions),
        option("--genes", genes),
        option("--max-epochs", max_epochs),
        ["--no-recipe-search"] if no_recipe_search else [],
        option("--condition-key", condition_key),
        option("--seed", seed),
        options("--set", set_),
        options("--extra-categorical", extra_categorical),
        options("--continuous", continuous),
        option("--size-factor-key", size_factor_key),
        option("--depth-key", depth_key),
        option("--layer", layer),
        option("--proteins-key", proteins_key),
        option("--licence", licence),
        option("--citation", citation),
        option("--species", species),
        coverage_bounds(refuse_below, warn_below),
    )


@commands.command("list")
def list_(data_dir: DataDir = None) -> None:
    """All versions of all references."""
    table = Table("name", "version", "aliases", "state", "genes", "cells", "built")
    with open_database(settings_from(data_dir=data_dir)).reading() as session:
        versions = list_versions(session, caller=LOCAL_ADMINISTRATOR)
        aliases = aliases_of(session, {version.name for version in versions})
        for version in versions:
            named = [each for each, at in aliases[version.name].items() if at == version.version]
            manifest = version.manifest or {}
            table.add_row(
                version.name,
                str(version.version),
                ", ".join(named),
                version.state,
                str(len(manifest.get("genes", {}).get("ids", ())) or ""),
                str(manifest.get("provenance", {}).get("n_cells", "")),
                f"{version.created_at:%Y-%m-%d %H:%M}Z",
            )
    Console().print(table)


@commands.command()
def show(name: Name, version: Version = None, data_dir: DataDir = None) -> None:
    """A version's manifest as JSON, without the columns as long as its gene panel."""
    with open_database(settings_from(data_dir=data_dir)).reading() as session:
        found = find_version(session, name, version, caller=LOCAL_ADMINISTRATOR)
        told = dict(found.manifest or {})
        for long in BY_GENE:
            told.pop(long, None)
        genes = told.pop("genes", {})
        told["n_genes"] = len(genes.get("ids", ()))
        if (evidence := told.get("recipe_evidence")) is not None:
            told["recipe_evidence"] = evidence["reason"]
        summary = {"state": found.state, "problem": found.problem, **told}
    typer.echo(json.dumps({"name": found.name, "version": found.version, **summary}, indent=2))


@commands.command()
def verify(name: Name, version: Version = None, data_dir: DataDir = None) -> None:
    """Check a version's files against its manifest, run its self-test and its golden queries."""
    settings_from(data_dir=data_dir)
    become_worker("verify", name, [str(version)] if version is not None else [])


@commands.command()
def remove(
    name: Name,
    version: Annotated[int, typer.Argument(help="Which version.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Withdraw a version that no mapping used, and remove its files; its number stays taken."""
    settings = settings_from(data_dir=data_dir)
    if not yes:
        typer.confirm(f"Remove {name} version {version} and its files?", abort=True)
    prefix = open_database(settings).write(partial(remove_version, name=name, version=version))
    open_storage(
        settings.storage_url, cache=settings.cache_dir, cache_bytes=settings.cache_bytes
    ).delete(prefix)
    typer.echo(f"Removed {name} version {version}.")
