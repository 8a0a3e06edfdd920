"""`python -m bench [NAME ...]`: the benchmarks of these names, or all of them."""

from __future__ import annotations

import importlib
import os
import sys

BENCHMARKS = (
    "epochs",
    "peakvi",
    "convergence-simulated",
    "convergence-simulated-stopping",
    "convergence-pbmc",
    "convergence-pbmc-stopping",
    "service",
    "building",
    "shards",
    "scanvi",
    "totalvi",
    "imputation",
    "multivi",
    "peaks",
    "imports",
    "intake",
    "warm",
    "plates",
    "large",
    "accuracy",
    "report",
)
"""A module of this folder, or its parts: `report` comes last, as it tells of all others."""


def main() -> None:
    if "OMP_WAIT_POLICY" not in os.environ:  # for both sides, as the compute child has it
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.execv(sys.executable, [sys.executable, "-m", "bench", *sys.argv[1:]])
    wanted = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in wanted if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"There is no benchmark {unknown[0]!r}. There are: {', '.join(BENCHMARKS)}.")
    for name in wanted:
        module, _, part = name.partition("-")
        importlib.import_module(f"bench.{module}").run(*[part] if part else [])


if __name__ == "__main__":
    main()
