"""`python -m bench [NAME ...]`: the benchmarks of these names, or all of them."""

from __future__ import annotations

import importlib
import os
import sys

BENCHMARKS = ("epochs", "service", "building", "shards", "scanvi", "imports", "intake", "accuracy")


def main() -> None:
    if "OMP_WAIT_POLICY" not in os.environ:  # for both sides, as the compute child has it
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.execv(sys.executable, [sys.executable, "-m", "bench", *sys.argv[1:]])
    wanted = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in wanted if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"There is no benchmark {unknown[0]!r}. There are: {', '.join(BENCHMARKS)}.")
    for name in wanted:
        importlib.import_module(f"bench.{name}").run()


if __name__ == "__main__":
    main()
