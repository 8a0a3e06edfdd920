"""The demo's steps: told when they begin, timed when they end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Steps:
    """Numbers the steps and keeps the seconds of each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        print(f"\n{len(self.seconds) + 1}. {name}", flush=True)
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began
        print(f"   done in {self.seconds[name]:.1f} s", flush=True)


def tell(line: str) -> None:
    print(f"   {line}", flush=True)
