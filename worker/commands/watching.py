"""A progress bar for a build, and its outcome in words."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from app.database import Database
from app.moves import TERMINAL_STATES
from app.problems import Problem
from app.tables import Job, ReferenceVersion
from app.terminal import printable

LOOK_SECONDS = 0.25


class Watch:
    """Watches the check and the build of one reference version."""

    def __init__(self, database: Database, *, check: str, build: str, version_id: str) -> None:
        self.job_ids = (check, build)
        self._database, self._version_id = database, version_id
        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._tasks: dict[str, TaskID] = {}
        self._looked = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        for job_id, what in zip(self.job_ids, ("checking the file", "building"), strict=True):
            self._tasks[job_id] = self._bar.add_task(what, total=1.0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def is_over(self) -> bool:
        """Whether the build has ended; moves the bars on the way."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        with self._database.reading() as session:
            jobs = [session.get_one(Job, job_id) for job_id in self.job_ids]
        for job in jobs:
            done = 1.0 if job.state == "succeeded" else job.progress
            said: dict[str, Any] = {"description": job.stage} if job.stage else {}
            self._bar.update(self._tasks[job.id], completed=done, **said)
        return jobs[1].state in TERMINAL_STATES

    def tell_outcome(self) -> int:
        """Say what came of it; the command's exit code."""
        with self._database.reading() as session:
            version = session.get_one(ReferenceVersion, self._version_id)
            manifest = version.manifest or {}
            problem = version.problem
        if version.state == "ready":
            typer.echo(_summary(version.name, version.version, manifest))
            return 0
        _tell_problem(Problem.from_dict(problem or {}))
        return 1


def _summary(name: str, version: int, manifest: dict[str, Any]) -> str:
    panel = manifest.get("genes", {})
    runs = panel.get("modalities") or [{"kind": "gene", "count": len(panel.get("ids", ()))}]
    features = ", ".join(f"{run['count']:,} {run['kind']}s" for run in runs)
    provenance = manifest.get("provenance", {})
    elbo = provenance.get("held_out_elbo")
    told = f", held-out ELBO {elbo:.2f} nats a cell" if elbo is not None else ""
    cells = provenance.get("n_cells", 0)
    return f"Reference {name} version {version} is ready: {cells:,} cells, {features}{told}."


def _tell_problem(problem: Problem) -> None:
    typer.echo(printable(f"{problem.title} {problem.detail}"), err=True)
    for error in problem.errors[1:]:
        typer.echo(printable(f"  {error['pointer']}: {error['detail']}"), err=True)
    typer.echo(printable(problem.fix), err=True)
