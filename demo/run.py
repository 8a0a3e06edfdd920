"""`make demo`: from simulated counts to judged latent coordinates, and nothing left running."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from demo import agreement, mapping
from demo.cellgraft import LABELS_KEY, REFERENCE_NAME, build_reference, running_service
from demo.curl import curl_file, require_curl
from demo.failures import DemoFailed
from demo.steps import Steps, tell
from worker.simulation import DemoFiles, write_demo

FOLDER = Path("demo-out")
MAX_EPOCHS = 120
"""Enough for 4,000 simulated cells; a real reference takes the default."""

LATENT_BAR = 0.95
PCA_BAR = 0.80

CELLS = "reference_cells.parquet"


def main() -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    try:
        require_curl()
        missed = run(FOLDER, began)
    except DemoFailed as failure:
        print(f"\nThe demo failed. {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nThe demo was interrupted; what it started is stopped.", file=sys.stderr)
        return 130
    for bar in missed:
        print(f"\nThe demo failed. {bar}", file=sys.stderr)
    return 1 if missed else 0


def run(folder: Path, began: float) -> list[str]:
    """The whole demo in a fresh folder. Returns a sentence for each bar it missed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    steps = Steps()
    with steps.step("Simulate a reference and a query"):
        files = write_demo(folder)
        tell(
            f"{files.reference} and {files.query}; the reference has no {files.missing_type} cells"
        )
    with steps.step("Build the reference"):
        build_reference(files.reference, folder / "data", max_epochs=MAX_EPOCHS)
    finished = _map(folder, files, steps)
    with steps.step("Judge the latent beside plain PCA"):
        latent, pca = _judge(folder, files)
    _report(folder, finished, steps, latent=latent, pca=pca)
    print(f"  in all                 {time.monotonic() - began:.1f} s, without the installation")
    return _missed(latent, pca)


def _map(folder: Path, files: DemoFiles, steps: Steps) -> dict[str, Any]:
    """The finished mapping; its results and the reference's cells are downloaded."""
    log = folder / "service.log"
    with ExitStack() as started:
        with steps.step("Start the service"):
            url = started.enter_context(running_service(folder / "data", log=log))
            tell(f"{url}, its log in {log}")
        with steps.step("Upload the query"):
            query = mapping.upload(url, files.query)
        with steps.step("Map it"):
            finished = mapping.wait(url, mapping.ask(url, query))
        with steps.step("Download the results"):
            mapping.download(url, finished, folder / "results")
            cells = f"{url}/v1/references/{REFERENCE_NAME}/cells.parquet"
            curl_file(cells, folder / CELLS)
    return finished


def _judge(folder: Path, files: DemoFiles) -> tuple[float, float]:
    """Label agreement in the latent and in PCA."""
    latent = agreement.latent_agreement(
        folder / CELLS, folder / "results" / "latent.parquet", files.query, label=LABELS_KEY
    )
    pca = agreement.pca_agreement(files.reference, files.query, label=LABELS_KEY)
    return latent, pca


def _report(
    folder: Path, finished: dict[str, Any], steps: Steps, *, latent: float, pca: float
) -> None:
    told = finished["summary"]
    print("\nWhat happened")
    print(f"  query cells mapped     {told['n_cells']:,}")
    print(f"  genes matched          {told['n_genes_matched']:,} of {told['n_genes_reference']:,}")
    print(f"  label agreement        {latent:.3f} in the latent (at least {LATENT_BAR:.2f} wanted)")
    print(f"                         {pca:.3f} in PCA (at most {PCA_BAR:.2f}: not too easy)")
    print(f"                         {agreement.NEIGHBOURS} nearest neighbours, types that the")
    print("                         reference has")
    print(f"  results                {folder / 'results'}/")
    for result in finished["results"]:
        print(f"    {result['name']:<28} {result['bytes']:>12,} bytes")
    print("  seconds")
    for name, seconds in steps.seconds.items():
        print(f"    {name:<36} {seconds:>6.1f}")
    for name, seconds in told["seconds"].items():
        print(f"      of the mapping: {name:<18} {seconds:>6.1f}")


def _missed(latent: float, pca: float) -> list[str]:
    missed = []
    if latent < LATENT_BAR:
        missed.append(f"Only {latent:.3f} of the cells found their own type; {LATENT_BAR} should.")
    if pca > PCA_BAR:
        missed.append(f"Plain PCA reached {pca:.3f}, over {PCA_BAR}: the demo is too easy.")
    return missed


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
