"""inspect: a client of a running service that asks what is wrong with a file."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.commands.mapping import (
    Files,
    Genome,
    Modality,
    Samples,
    client_of,
    upload_bar,
)
from app.commands.surroundings import ProteinsKey
from app.terminal import printable

REFUSED = 1


def inspect(
    files: Files,
    *,
    server: Annotated[str, typer.Option(help="Address of the service.")],
    layer: Annotated[str | None, typer.Option(help="layers/NAME or raw/X.")] = None,
    genome: Genome = None,
    modality: Modality = None,
    proteins_key: ProteinsKey = None,
    sample: Samples = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="CELLGRAFT_API_KEY", show_envvar=True)
    ] = None,
) -> None:
    """Say everything that is wrong with a file; the service keeps nothing of it.

    Exits with 1 where the file would be refused.
    """
    with client_of(server, api_key, goes_on="Its report is forgotten in an hour.") as client:
        options: dict[str, str | list[str] | None] = {
            "layer": layer,
            "genome": genome,
            "modality": modality,
            "proteins_key": proteins_key,
            "sample": sample,
        }
        with upload_bar(files) as tell:
            report = client.inspect(files, options=options, tell=tell)
    _show(report)
    raise typer.Exit(0 if report["acceptable"] else REFUSED)


def _features(found: dict[str, Any]) -> str:
    """How many there are of each kind."""
    kinds = found.get("features") or {"gene": found["n_genes"]}
    return ", ".join(f"{number:,} {kind}s" for kind, number in kinds.items())


def _show(report: dict[str, Any]) -> None:
    found = report["inspection"] or {}
    if "n_cells" in found:
        typer.echo(f"{found['n_cells']:,} cells, {_features(found)}.")
    problems = found.get("problems", [])
    for each in problems:
        typer.echo(printable(f"{each['severity']} {each['code']} at {each['pointer']}"))
        typer.echo(f"  {printable(each['detail'])}")
        if each["fix"]:
            typer.echo(f"  {printable(each['fix'])}")
    if report["problem"] and not problems:
        typer.echo(printable(f"{report['problem']['detail']} {report['problem']['fix']}"))
    typer.echo("The file is acceptable." if report["acceptable"] else "The file is refused.")
