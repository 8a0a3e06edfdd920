"""`cellgraft serve` with a compute child that notes when it did what: `bench/timed_runs.py`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from app.cli import main as cellgraft
from app.commands import serving
from app.settings import Settings
from app.supervisor import Child, Supervisor
from worker.child_process import ChildProcess
from worker.commands.opening import open_worker
from worker.commands.run import serve

COMMAND = [sys.executable, "-m", "bench.timed_service"]
WORKER = "timed-worker"


class TimedSupervisor(Supervisor):
    """Starts `run_worker` in the place of `python -m worker run`."""

    def __init__(self, settings: Settings, *, ready_file: Path | None = None) -> None:
        super().__init__(settings, ready_file=ready_file)
        api, worker = self.children
        self.children = [api, Child(worker.name, [*COMMAND, WORKER])]


def run_worker() -> None:
    settings = Settings()
    opened = open_worker(settings)
    child = ChildProcess(threads=settings.threads, runs="bench.timed_runs")
    place = dataclasses.replace(opened.place, child=child)
    serve(dataclasses.replace(opened, place=place), settings)


def main() -> None:
    if sys.argv[1:] == [WORKER]:
        run_worker()
        return
    serving.Supervisor = TimedSupervisor  # type: ignore[misc]
    cellgraft()


if __name__ == "__main__":
    main()
