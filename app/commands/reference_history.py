"""references: compare, impact."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.orm import Session

from app.aliases import resolve
from app.commands.surroundings import DataDir, open_database, settings_from
from app.comparison import Comparison, Difference, compare_manifests
from app.impact import Impact, impact_of
from app.keys import LOCAL_ADMINISTRATOR
from app.references import find_built_version, find_version
from models_store.manifest import Manifest

Reference = Annotated[str, typer.Argument(help="NAME, NAME@VERSION or NAME@ALIAS.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
MOST_NAMES = 10
PAGE = 200


def compare(
    before: Reference, after: Reference, *, json_: AsJson = False, data_dir: DataDir = None
) -> None:
    """Say what is different in the second version: genes, labels, batches, architecture, terms."""
    with open_database(settings_from(data_dir=data_dir)).reading() as session:
        found = compare_manifests(_manifest(session, before), _manifest(session, after))
    typer.echo(json.dumps(asdict(found), indent=2) if json_ else "\n".join(_told(found)))


def _manifest(session: Session, reference: str) -> Manifest:
    named = resolve(session, reference, caller=LOCAL_ADMINISTRATOR)
    version = find_built_version(session, named.name, named.version, caller=LOCAL_ADMINISTRATOR)
    return Manifest.model_validate(version.manifest)


def _told(found: Comparison) -> list[str]:
    lines = [f"From {found.before} to {found.after}:"]
    lines += _differences("genes", found.genes)
    for level, difference in found.labels.items():
        lines += _differences(f"labels {level!r}", difference)
    lines += _differences("batches", found.batches)
    for key, difference in found.extra_covariates.items():
        lines += _differences(f"covariate {key!r}", difference)
    lines += [f"  {name}: {a} -> {b}" for name, (a, b) in found.changed.items()]
    r = found.expected_expression_correlation
    told = "not defined" if r is None else f"{r:.4f}"
    return [*lines, f"  expected expression of shared genes, correlation: {told}"]


def _differences(what: str, difference: Difference) -> list[str]:
    sizes = f"{difference.n_before} -> {difference.n_after}"
    if difference.is_none:
        return [f"  {what}: {sizes}, the same"]
    changes = ((len(names), sign, names) for sign, names in _signed(difference) if names)
    return [f"  {what}: {sizes}"] + [
        f"    {sign} {n}: {', '.join(names[:MOST_NAMES])}{' ...' if n > MOST_NAMES else ''}"
        for n, sign, names in changes
    ]


def _signed(difference: Difference) -> tuple[tuple[str, list[str]], ...]:
    return ("+", difference.gained), ("-", difference.lost)


def impact(
    reference: Reference,
    *,
    alias_moved: Annotated[
        bool, typer.Option("--alias-moved", help="Only those whose alias names another one now.")
    ] = False,
    json_: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List all mappings, of all owners, that were made with a version."""
    with open_database(settings_from(data_dir=data_dir)).reading() as session:
        named = resolve(session, reference, caller=LOCAL_ADMINISTRATOR)
        version = find_version(session, named.name, named.version, caller=LOCAL_ADMINISTRATOR)
        pages = _pages(session, version.name, version.version, alias_moved)
    told = {"n_mappings": pages[0].n_mappings, "n_alias_moved": pages[0].n_alias_moved}
    items = [item for page in pages for item in page.items]
    if json_:
        shown: dict[str, Any] = {**told, "items": [asdict(item) for item in items]}
        typer.echo(json.dumps(shown, indent=2, default=str))
        return
    table = Table("id", "external id", "owner", "state", "created", "asked for by")
    for item in items:
        asked = "" if item.alias is None else item.alias + (" (moved)" if item.alias_moved else "")
        created = f"{item.created_at:%Y-%m-%d %H:%M}Z"
        table.add_row(item.id, item.external_id, item.owner, item.state, created, asked)
    Console().print(table)
    typer.echo(
        f"{told['n_mappings']} mappings were made with {version.name}@{version.version}; of "
        f"{told['n_alias_moved']} the alias names another version now."
    )


def _pages(session: Session, name: str, version: int, alias_moved: bool) -> list[Impact]:
    pages: list[Impact] = []
    while not pages or pages[-1].next is not None:
        cursor = pages[-1].next if pages else None
        pages.append(
            impact_of(
                session,
                name=name,
                version=version,
                limit=PAGE,
                cursor=cursor,
                alias_moved=alias_moved,
            )
        )
    return pages
