"""`--parity-table PATH`: after the tests, write what they measured."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity-table", type=Path, help="write the table of errors to this file")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in one order, so that the table is the same on every run."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Also after failures, which the table then shows."""
    path: Path | None = session.config.getoption("--parity-table", default=None)
    if path is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from .table import render

        text = render()
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
