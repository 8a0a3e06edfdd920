"""doctor: what holds the readers of uploaded files on this machine, tried and told."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import typer

from app.settings import Settings
from worker.layers import Layers, find_layers, require
from worker.trial import GIVEN, try_layers

NAMES = {
    "landlock": "Landlock",
    "bubblewrap": "bubblewrap",
    "limits": "limits on resources alone",
}


def doctor() -> None:
    """Tell which sandbox uploaded files are read in, try it, and say what it lacks.

    Exit code 1 when something is missing, 78 when a worker would refuse to start.
    """
    layers = find_layers()
    for line in describe(layers):
        typer.echo(line)
    escapes = _try(layers)
    require(layers, Settings().sandbox)
    if layers.lacks or escapes:
        raise typer.Exit(1)
    typer.echo("Nothing is missing.")


def describe(layers: Layers) -> Iterator[str]:
    """What there is, what it takes from a reader, and what is missing with its fix."""
    kernel = layers.landlock
    yield f"Uploaded files are read in a sandbox of: {NAMES[layers.active]}."
    if kernel.abi:
        yield f"Landlock: ABI {kernel.abi} (the kernel, {platform.release()}, says {kernel.said})."
        yield f"  A reader cannot {'; '.join(kernel.rights.told())}, but for one file and code."
    else:
        yield f"Landlock: none ({kernel.why_not})."
        found = layers.bubblewrap
        yield f"bubblewrap: {found.program or f'none ({found.why_not})'}."
    yield f"Filter of system calls: {'yes' if layers.filtered else 'no'}."
    yield "Limits on memory, time, descriptors, processes and written bytes: yes."
    for lack in layers.lacks:
        yield f"MISSING: {lack.what}\n  FIX: {lack.fix}"


def _try(layers: Layers) -> bool:
    """Whether a process in the sandbox could do what it must not, or could not read its file."""
    try:
        could = try_layers(layers)
    except OSError as error:
        typer.echo(f"TRIED: nothing, {error}.")
        return True
    for what, done in could.items():
        typer.echo(f"TRIED to {what}: {'done' if done else 'refused'}.")
    return any(done != (what == GIVEN) for what, done in could.items())
