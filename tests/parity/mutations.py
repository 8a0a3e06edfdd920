"""Formulas broken on purpose, and whether what compares them notices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .errors import Errors

Patch = pytest.MonkeyPatch
Mutation = Callable[[Patch], None]


def assert_caught(
    mutation: Mutation,
    compare: Any,
    failures: Callable[[Errors], list[str]],
    where: tuple[str, str],
) -> None:
    """A quantity of a configuration fails by the mutation alone; nothing of it stays in a cache.

    Args:
        mutation: breaks one formula.
        compare: measures a configuration, and keeps what it measured.
        failures: the quantities that are further off than they may be.
        where: the configuration's name and the quantity.
    """
    name, quantity = where
    assert quantity not in failures(compare(name))
    with pytest.MonkeyPatch.context() as patch:
        mutation(patch)
        assert quantity in failures(compare.__wrapped__(name))
