"""How long a stage will still take."""

from __future__ import annotations

import time

import pytest

from worker.countdown import Countdown, duration


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, "10 s"),
        (10.0, "10 s"),
        (41.0, "50 s"),
        (100.0, "100 s"),
        (101.0, "2 min"),
        (3600.0, "60 min"),
    ],
)
def test_times_are_coarse_and_never_too_short(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_what_is_left_follows_from_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float]] = []
    clock = iter([100.0, 130.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    tick = Countdown(lambda stage, share: told.append((stage, share)), "x", begin=0.5, end=0.9)
    tick(0.0)
    tick(0.5)
    tick(0.505)
    said = "x, about 30 s left"
    assert told == [("x", 0.5), (said, pytest.approx(0.7)), (said, pytest.approx(0.702))]
