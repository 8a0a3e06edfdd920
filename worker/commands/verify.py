"""verify: prove that a reference version is what it was on the day it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.aliases import resolve
from app.golden import golden_prefix, goldens_of, record_latents, record_problem_type
from app.keys import LOCAL_ADMINISTRATOR
from app.logs import set_up_logs
from app.problems import Problem
from app.references import find_built_version
from app.settings import Settings
from app.tables import ReferenceVersion
from app.terminal import told
from models_store.digests import file_sha256
from worker.commands.opening import Opened, open_worker

if TYPE_CHECKING:
    from worker.golden import GoldenWork, Judgement


def verify(
    name: Annotated[str, typer.Argument(help="NAME, NAME@VERSION or NAME@ALIAS.")],
    version: Annotated[int | None, typer.Argument(help="Newest ready one if left out.")] = None,
) -> None:
    """Check every file against the manifest, load the network, map its probe cells, and map its
    golden queries."""
    set_up_logs("warning")
    opened = open_worker(Settings())
    try:
        found, works = _find(opened, name, version)
        _verify_bundle(opened, found)
        held = not works or _verify_goldens(opened, found, works)
    except Problem as problem:
        typer.echo(told(problem), err=True)
        raise typer.Exit(1) from problem
    finally:
        opened.database.close()
    raise typer.Exit(0 if held else 1)


def _find(
    opened: Opened, name: str, version: int | None
) -> tuple[ReferenceVersion, list[GoldenWork]]:
    from worker.golden import GoldenWork

    with opened.database.reading() as session:
        named = resolve(session, name, version, caller=LOCAL_ADMINISTRATOR)
        found = find_built_version(session, named.name, named.version, caller=LOCAL_ADMINISTRATOR)
        works = [
            GoldenWork(
                golden_id=golden.id,
                filename=golden.filename,
                storage_key=golden.storage_key,
                sha256=golden.sha256,
                expect=golden.expect,
                options={**golden.options, "input": (found.manifest or {}).get("input")},
                min_agreement=golden.min_agreement,
                problem_type=golden.problem_type,
                latents=golden.latents,
                reference_prefix=found.bundle_prefix or "",
                manifest_sha256=found.manifest_sha256 or "",
            )
            for golden in goldens_of(session, found)
        ]
    return found, works


def _verify_bundle(opened: Opened, found: ReferenceVersion) -> None:
    from models_store.bundle import InvalidBundle, verify_bundle

    which = f"{found.name}@{found.version}"
    try:
        with opened.storage.borrow_folder(found.bundle_prefix or "") as folder:
            manifest = verify_bundle(folder)
    except InvalidBundle as damage:
        typer.echo(f"{which} is damaged: {damage}. Restore it or build it again.", err=True)
        raise typer.Exit(1) from damage
    typer.echo(f"{which}: {len(manifest.files)} files as they were made;")
    typer.echo("the network loads, and padded probe cells map where they mapped then.")
    if not manifest.surgery_has_effect:
        typer.echo("Its encoder does not see the batch: surgery cannot change a latent.")


def _verify_goldens(opened: Opened, found: ReferenceVersion, works: list[GoldenWork]) -> bool:
    """Whether every golden query gave what it must; what a first run gave is kept."""
    from worker.golden import judge_all, working

    table = Table("golden query", "must", "labels agree", "latents differ", "holds")
    failed = []
    with working(opened.place):
        for work, judgement in judge_all(opened.place, works):
            _keep(opened, found, work, judgement)
            table.add_row(*_told(work, judgement))
            if not judgement.holds:
                failed.append(f"{work.filename} ({work.golden_id}): {judgement.told}")
    Console().print(table)
    for sentence in failed:
        typer.echo(sentence)
    if failed:
        typer.echo(f"{len(failed)} of {len(works)} golden queries do not hold.")
    return not failed


def _told(work: GoldenWork, judgement: Judgement) -> list[str]:
    agreement, difference = judgement.agreement, judgement.difference
    first = "first run" if judgement.new_latents is not None else ""
    return [
        work.filename,
        "map" if work.expect == "pass" else "be refused",
        "" if agreement is None else f"{agreement:.3f}",
        first if difference is None else f"{difference:.1e}",
        "yes" if judgement.holds else "NO",
    ]


def _keep(opened: Opened, found: ReferenceVersion, work: GoldenWork, judgement: Judgement) -> None:
    if judgement.new_problem_type is not None:
        with opened.database.writing() as session:
            record_problem_type(
                session, golden_id=work.golden_id, problem_type=judgement.new_problem_type
            )
    if judgement.new_latents is None or judgement.device is None:
        return
    folder = golden_prefix(found.name, found.version, work.golden_id)
    key = f"{folder}/latent-{judgement.device}.npy"
    digest = file_sha256(judgement.new_latents)
    opened.storage.publish_file(judgement.new_latents, key, sha256=digest)
    with opened.database.writing() as session:
        record_latents(
            session, golden_id=work.golden_id, device=judgement.device, key=key, sha256=digest
        )
