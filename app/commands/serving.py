"""serve, api, worker: the processes of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.surroundings import DataDir, become_worker, settings_from
from app.supervisor import REFUSED_EXIT, PortBusy, Supervisor

Host = Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; default 8000.")]


def serve(
    data_dir: DataDir = None,
    host: Host = None,
    port: Port = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written with the URL once the service answers.")
    ] = None,
) -> None:
    """Run the service: the API and one worker, on this machine."""
    settings = settings_from(data_dir=data_dir, host=host, port=port)
    try:
        code = Supervisor(settings, ready_file=ready_file).run()
    except PortBusy as busy:
        typer.echo(str(busy), err=True)
        raise typer.Exit(1) from busy
    raise typer.Exit(code)


def api(data_dir: DataDir = None, host: Host = None, port: Port = None) -> None:
    """Run the API alone."""
    from app.api import serve_api
    from app.service import UnsafeBinding

    settings = settings_from(data_dir=data_dir, host=host, port=port)
    try:
        serve_api(settings)
    except UnsafeBinding as refused:
        typer.echo(str(refused), err=True)
        raise typer.Exit(REFUSED_EXIT) from refused


def worker(data_dir: DataDir = None) -> None:
    """Run a worker alone."""
    settings_from(data_dir=data_dir)
    become_worker("run")


def doctor() -> None:
    """Tell which sandbox uploaded files are read in on this machine, and what is missing."""
    become_worker("doctor")


def demo_data(
    folder: Annotated[Path, typer.Argument(help="Where the simulated files go.")],
) -> None:
    """Write a simulated reference and query, realistic enough to try everything on."""
    become_worker("demo-data", str(folder))
