"""Are these numbers what a matrix of counts may hold?"""

from __future__ import annotations

from typing import Any

import numpy as np

from app.problems import UnreadableFile
from worker.intake.findings import located
from worker.intake.limits import LARGEST_COUNT

Array = np.ndarray[Any, Any]


class BadValue(Exception):
    """A value that the matrix may not hold, and where it stands."""

    def __init__(self, row: int, column: int, value: float, reason: str) -> None:
        super().__init__(reason)
        self.row, self.column, self.value, self.reason = row, column, value, reason


def check_number_type(dtype: np.dtype[Any], pointer: str) -> None:
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        raise located(
            UnreadableFile, pointer, f"{pointer} holds values of type {dtype}, not numbers."
        )


def first_fault(values: Array, *, whole: bool) -> tuple[int, str] | None:
    """Position of the first value that is not finite, not >= 0, too large, or not whole."""
    if not len(values):
        return None
    # As Python numbers: half precision cannot even hold the bounds. False for NaN too.
    if not (values.min().item() >= 0 and values.max().item() <= largest_value(whole=whole)):
        return _explain(values.astype(np.float64), whole=whole)
    if whole and values.dtype.kind == "f":
        fractions = values != np.rint(values)
        if fractions.any():
            return int(fractions.argmax()), "is not a whole number"
    return None


def largest_value(*, whole: bool) -> float:
    return float(LARGEST_COUNT if whole else np.finfo(np.float32).max)


def too_large_for(*, whole: bool) -> str:
    return f"is larger than {largest_value(whole=whole):{',.0f' if whole else '.6g'}}"


def _explain(values: Array, *, whole: bool) -> tuple[int, str]:
    for bad, reason in (
        (np.isnan(values), "is not a number (NaN)"),
        (np.isinf(values), "is infinite"),
        (values < 0, "is negative"),
        (values > largest_value(whole=whole), too_large_for(whole=whole)),
    ):
        if bad.any():
            return int(bad.argmax()), reason
    raise AssertionError("called without a fault")
