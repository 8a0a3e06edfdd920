"""Zygotes with a naive check, held by each layer that a machine may offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.problems import Problem
from worker.bubblewrap import Bubblewrap, find_bubblewrap
from worker.checking import CheckOrder
from worker.intake.limits import Limits
from worker.landlock import Landlock, find_landlock
from worker.layers import Layers, find_layers
from worker.zygote_process import ZygoteProcess

NAIVE = "tests.worker.sandbox.naive_zygote"
ROOT = Path(__file__).parents[3]
NO_LANDLOCK = Landlock(0, why_not="ENOSYS")
NO_BUBBLEWRAP = Bubblewrap(why_not="bubblewrap is not installed")
LAYERS = ("landlock", "bubblewrap", "limits")


def layers_of(name: str) -> Layers:
    """The layers of a machine on which this one is the best; skips where this machine lacks it."""
    if name == "landlock" and not find_landlock().abi:
        pytest.skip("this kernel has no Landlock")
    if name == "bubblewrap" and not find_bubblewrap().program:
        pytest.skip("bubblewrap is not there or cannot work here")
    return find_layers(
        landlock=find_landlock if name == "landlock" else lambda: NO_LANDLOCK,
        bubblewrap=find_bubblewrap if name == "bubblewrap" else lambda: NO_BUBBLEWRAP,
    )


class Naive:
    """Hands files to a naive check in the sandbox."""

    def __init__(self, zygote: ZygoteProcess, folder: Path) -> None:
        self.zygote, self._folder, self._calls = zygote, folder, 0

    def __call__(self, path: Path, act: str, *, seconds: float = 20.0) -> dict[str, Any]:
        """What the check saw. Raises the Problem of one that did not live to tell."""
        self._calls += 1
        order = CheckOrder(path, self._folder / str(self._calls), {"layer": act}, seconds, Limits())
        with pytest.raises(Problem) as raised:
            self.zygote.check(order)
        if raised.value.inspection is None:
            raise raised.value
        return raised.value.inspection


@pytest.fixture(scope="session")
def zygotes() -> Iterator[Callable[[str], ZygoteProcess]]:
    started: dict[str, ZygoteProcess] = {}

    def of(name: str) -> ZygoteProcess:
        if name not in started:
            started[name] = ZygoteProcess(NAIVE, layers=layers_of(name))
            started[name].start()
        return started[name]

    yield of
    for zygote in started.values():
        zygote.stop()


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def naive(
    layer: str,
    zygotes: Callable[[str], ZygoteProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Naive:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Naive(zygotes(layer), tmp_path / "canonical")
