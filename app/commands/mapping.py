"""map: a client of a running service."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from app.client import Client
from app.commands.surroundings import ProteinsKey

console = Console(stderr=True)


QUERY = "An h5ad, h5mu, 10x .h5, or an MTX triple as tar or zip; several files are one query."
Files = Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help=QUERY)]
Samples = Annotated[
    list[str] | None,
    typer.Option(help="For several files: what to call each sample, in order; repeatable."),
]
Genome = Annotated[str | None, typer.Option(help="Of a 10x .h5 with several.")]
Modality = Annotated[str | None, typer.Option(help="Of an h5mu: the one to take, alone.")]
BatchKey = Annotated[list[str] | None, typer.Option(help="obs column of the batches; repeatable.")]
ConditionKey = Annotated[str | None, typer.Option(help="obs column: what was done to them.")]
ControlValues = Annotated[
    list[str] | None, typer.Option(help="A value of it that is no treatment; repeatable.")
]
CellFilter = Annotated[
    str | None,
    typer.Option(help='Which cells to map, as JSON: {"column": "sex", "in": ["male"]}.'),
]
Outputs = Annotated[
    str | None,
    typer.Option(
        help="Files of decoded values, as JSON: "
        '[{"output": "normalised_expression", "features": ["CD3E"]}].'
    ),
]
ObsPolicy = Annotated[
    str | None, typer.Option(help="Columns that are kept: all, needed or listed.")
]
ObsKeep = Annotated[
    list[str] | None, typer.Option(help="A column that `listed` keeps; repeatable.")
]


def map_(
    files: Files,
    *,
    server: Annotated[str, typer.Option(help="Address of the service.")],
    reference: Annotated[str, typer.Option(help="Name of the reference.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results"),
    version: Annotated[int | None, typer.Option(help="Default: the newest.")] = None,
    batch_key: BatchKey = None,
    labels_key: Annotated[str | None, typer.Option(help="obs column.")] = None,
    layer: Annotated[str | None, typer.Option(help="layers/NAME or raw/X.")] = None,
    genome: Genome = None,
    modality: Modality = None,
    proteins_key: ProteinsKey = None,
    sample: Samples = None,
    sample_key: Annotated[str | None, typer.Option(help="obs column: whose cells.")] = None,
    condition_key: ConditionKey = None,
    control_value: ControlValues = None,
    cell_filter: CellFilter = None,
    outputs: Outputs = None,
    obs_policy: ObsPolicy = None,
    obs_keep: ObsKeep = None,
    recipe: Annotated[str, typer.Option(help="default, scvi-tools or forward.")] = "default",
    force: Annotated[
        bool, typer.Option("--force", help="Map although genes are missing; the verdict is fail.")
    ] = False,
    api_key: Annotated[
        str | None, typer.Option(envvar="CELLGRAFT_API_KEY", show_envvar=True)
    ] = None,
) -> None:
    """Upload a query, wait for its mapping, and download the results."""
    options: dict[str, str | list[str] | None] = {
        "reference": reference,
        "version": None if version is None else str(version),
        "batch_key": batch_key,
        "labels_key": labels_key,
        "layer": layer,
        "genome": genome,
        "modality": modality,
        "proteins_key": proteins_key,
        "sample": sample,
        "sample_key": sample_key,
        "condition_key": condition_key,
        "control_values": control_value,
        "cell_filter": cell_filter,
        "outputs": outputs,
        "obs_policy": obs_policy,
        "obs_keep": obs_keep,
        "recipe": recipe,
        "force": "true" if force else None,
    }
    goes_on = "A mapping that was accepted goes on; GET /v1/mappings lists it."
    with client_of(server, api_key, goes_on=goes_on) as client:
        mapping = _upload(client, files, options)
        mapping = _wait(client, mapping)
        _warn(mapping)
        _download(client, mapping, out)


@contextmanager
def client_of(server: str, api_key: str | None, *, goes_on: str) -> Iterator[Client]:
    """A client until the `with` ends, and a sentence where the connection does."""
    client = Client(server, api_key=api_key)
    try:
        yield client
    except httpx.ConnectError as error:
        typer.echo(f"Nothing answers at {server}. Is the service running?", err=True)
        raise typer.Exit(1) from error
    except httpx.TransportError as error:
        broke = f"The connection to {server} broke: {error or type(error).__name__}."
        typer.echo(f"{broke} {goes_on}", err=True)
        raise typer.Exit(1) from error
    finally:
        client.close()


def _upload(
    client: Client, files: Sequence[Path], options: dict[str, str | list[str] | None]
) -> dict[str, Any]:
    with upload_bar(files) as tell:
        return client.map_files(files, options=options, tell=tell)


@contextmanager
def upload_bar(files: Sequence[Path]) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal, and what moves it."""
    name = files[0].name if len(files) == 1 else f"{len(files)} files"
    with bytes_bar() as bar:
        total = sum(file.stat().st_size for file in files)
        task = bar.add_task(f"uploading {name}", total=total)
        yield lambda sent: bar.advance(task, sent)


def _wait(client: Client, mapping: dict[str, Any]) -> dict[str, Any]:
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("waiting", total=1.0)

        def tell(now: dict[str, Any]) -> None:
            bar.update(task, completed=now["progress"], description=now["stage"] or now["state"])

        return client.wait(mapping, tell)


def _warn(mapping: dict[str, Any]) -> None:
    # A service of an earlier version has none to tell.
    for warning in mapping.get("warnings", ()):
        typer.echo(f"Warning: {warning['detail']} {warning['fix']}", err=True)
    for reason in (mapping.get("verdict") or {}).get("reasons", ()):
        typer.echo(f"The verdict is {mapping['verdict']['result']}: {reason['detail']}", err=True)


def _download(client: Client, mapping: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with bytes_bar() as bar:
        for result in mapping["results"]:
            task = bar.add_task(result["name"], total=result["bytes"])
            client.download(result, out, lambda got, task=task: bar.advance(task, got))  # type: ignore[misc]
    typer.echo(f"Mapping {mapping['id']}: {len(mapping['results'])} files in {out}")
    for result in mapping["results"]:
        typer.echo(f"  {out / result['name']}  ({result['bytes']} bytes)")


def bytes_bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)
