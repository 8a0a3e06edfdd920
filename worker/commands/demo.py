"""demo-data: write a simulated reference and query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo_data(
    folder: Annotated[Path, typer.Argument(help="Where reference.h5ad and query.h5ad go.")],
) -> None:
    """Write a simulated reference and query, realistic enough to try everything on."""
    from worker.simulation import write_demo

    folder.mkdir(parents=True, exist_ok=True)
    written = write_demo(folder)
    typer.echo(f"{written.reference}\n{written.query}")
