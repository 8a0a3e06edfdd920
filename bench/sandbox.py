"""What the sandbox costs a check: `python -m bench.sandbox FILE [CHECKS]`.

Checks of one file take turns behind each layer and behind none, so that whatever else the machine
does falls on all alike; told are medians, and their ratio to the check behind none.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

from worker.bubblewrap import Bubblewrap
from worker.checking import CheckOrder
from worker.intake.limits import Limits
from worker.landlock import Landlock
from worker.layers import find_layers
from worker.zygote_process import ZygoteProcess


def zygotes() -> dict[str, ZygoteProcess]:
    none = Landlock(0, why_not="left out")
    found = {
        "none": ZygoteProcess("bench.bare_zygote"),
        "limits and filter": ZygoteProcess(
            layers=find_layers(landlock=lambda: none, bubblewrap=Bubblewrap)
        ),
        "bubblewrap": ZygoteProcess(layers=find_layers(landlock=lambda: none)),
        "landlock": ZygoteProcess(),
    }
    return {
        name: zygote
        for name, zygote in found.items()
        if name not in ("bubblewrap", "landlock") or zygote.layers.active == name
    }


def main() -> None:
    path, checks = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100
    started = zygotes()
    for zygote in started.values():
        zygote.start()
    took: dict[str, list[float]] = {name: [] for name in started}
    with tempfile.TemporaryDirectory() as folder:
        for turn, number in zip(range(-3, checks), count(), strict=False):
            for name, zygote in started.items():
                order = CheckOrder(path, Path(folder, f"{number}-{name}"), {}, 60.0, Limits())
                began = time.perf_counter()
                zygote.check(order)
                if turn >= 0:
                    took[name].append(time.perf_counter() - began)
    for zygote in started.values():
        zygote.stop()
    bare = statistics.median(took["none"])
    for name, seconds in took.items():
        median = statistics.median(seconds)
        print(f"{name:20} {median * 1e3:8.1f} ms   {median / bare:.2f}")


if __name__ == "__main__":
    main()
