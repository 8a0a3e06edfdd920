"""rank: a client of a running service that asks which reference a query belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.client import Client
from app.commands.mapping import client_of, upload_bar

console = Console()


def rank(
    query: Annotated[str, typer.Argument(help="A file, or the id of a query.")],
    *,
    server: Annotated[str, typer.Option(help="Address of the service.")],
    api_key: Annotated[
        str | None, typer.Option(envvar="CELLGRAFT_API_KEY", show_envvar=True)
    ] = None,
) -> None:
    """Say which of the service's references explain a query's cells, the best first."""
    goes_on = "A ranking that was accepted goes on; GET /v1/queries/ID/ranking shows it."
    with client_of(server, api_key, goes_on=goes_on) as client:
        query_id = _upload(client, Path(query)) if Path(query).is_file() else query
        with console.status("comparing the references"):
            ranking = client.rank(query_id, lambda _: None)
        _show(ranking)


def _upload(client: Client, file: Path) -> str:
    with upload_bar([file]) as tell:
        return str(client.upload([file], options={}, tell=tell)["id"])


def _show(ranking: dict[str, Any]) -> None:
    typer.echo(f"Query {ranking['query']}")
    if not ranking["items"]:
        typer.echo("The service has no reference that you could map onto.")
        return
    table = Table("reference", "genes", "explained", "score", "", box=None)
    for item in ranking["items"]:
        table.add_row(
            f"{item['reference']}@{item['version']}",
            f"{item['n_matched']:,} of {item['n_panel']:,}",
            _number(item["explained"]),
            _number(item["score"]),
            # Names of genes and reasons come from files: they are no markup.
            Text(item["verdict"]),
        )
    console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
