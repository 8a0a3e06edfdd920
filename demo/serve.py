"""`make serve`: the service with the demo reference in it, until it is stopped."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from demo.cellgraft import COMMAND, REFERENCE_NAME, build_reference, surroundings
from demo.failures import DemoFailed
from demo.run import MAX_EPOCHS
from worker.simulation import write_demo

HOST, PORT = "127.0.0.1", "8000"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    data_dir: Path = parser.parse_args().data_dir
    try:
        prepare(data_dir)
    except DemoFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return become_service(data_dir)


def become_service(data_dir: Path) -> NoReturn:
    arguments = ["serve", "--data-dir", str(data_dir), "--host", HOST, "--port", PORT]
    os.execve(sys.executable, [*COMMAND, *arguments], surroundings())


def prepare(data_dir: Path) -> None:
    """Simulate and build what is not there yet."""
    folder = data_dir / "demo"
    query = folder / "query.h5ad"
    if not query.exists():
        print(f"Simulating a reference and a query into {folder} ...", flush=True)
        write_demo(folder)
    if not has_reference(data_dir):
        print("Building the demo reference (once; some minutes) ...", flush=True)
        build_reference(folder / "reference.h5ad", data_dir, max_epochs=MAX_EPOCHS)
    print(f"Reference: {REFERENCE_NAME}. A query to try: {query}. The README has the calls.")
    sys.stdout.flush()


def has_reference(data_dir: Path) -> bool:
    arguments = ["references", "show", REFERENCE_NAME, "--data-dir", str(data_dir)]
    if not (data_dir / "cellgraft.db").exists():
        return False
    shown = subprocess.run(
        [*COMMAND, *arguments], env=surroundings(), capture_output=True, check=False
    )
    return shown.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
