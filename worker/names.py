"""How values become names, and how names stay fit to print and apart from each other."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np

UNFIT = re.compile("[\0\ud800-\udfff]")
"""What JSON, HDF5 or a database chokes on: NUL, and halves of characters (lone surrogates)."""
REPLACEMENT = "\ufffd"


def readable(name: str | bytes) -> str:
    """Text that may be told and stored anywhere, whatever bytes a file called a name."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    return UNFIT.sub(REPLACEMENT, text)


def name_of(value: Any) -> str:
    """A value as the name of a category: 1 and 1.0 are the same one."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def free_name(wanted: str, taken: Collection[str]) -> str:
    """The name itself, or with a number where it is taken."""
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name
