"""Are these numbers what a matrix of counts may hold? Every kind of fault, counted and placed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.intake.findings import located
from worker.intake.limits import LARGEST_COUNT

Array = np.ndarray[Any, Any]
Place = Callable[[int], tuple[int, int]]
"""From the position of a value among those looked at to its row and column."""


@dataclass
class Fault:
    """Values of one kind that a matrix may not hold: how many, and the first of them."""

    place: tuple[int, int] | None
    """The row and column of the first; None where the structure of the matrix is damaged."""
    value: float
    number: int = 0
    pointer: str | None = None
    """Of the array, where it is not the one of the matrix that is asked for."""


class Survey:
    """Looks at the values of one matrix as they pass."""

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole
        self.fractions = not whole
        """Whether values need not be whole numbers."""
        self.faults: dict[str, Fault] = {}
        """By the code of the finding."""

    def afresh(self) -> Survey:
        """One that has seen nothing yet, and allows the same."""
        other = Survey(whole=self.whole)
        other.fractions = self.fractions
        return other

    def allow_fractions(self) -> None:
        self.fractions = True
        self.faults.pop("fractional-values", None)

    @property
    def is_clean(self) -> bool:
        return not self.faults

    def look(self, values: Array, place: Place | None) -> None:
        if not len(values):
            return
        # As Python numbers: half precision cannot even hold the bounds. False for NaN too.
        within = values.min().item() >= 0 and values.max().item() <= largest_value(whole=self.whole)
        if within and (self.fractions or values.dtype.kind != "f"):
            return
        if within and (values == np.rint(values)).all():
            return
        for code, bad in self._judge(values):
            number = int(np.count_nonzero(bad))
            if number:
                at = int(bad.argmax())
                self.note(code, place(at) if place else None, float(values[at]), number)

    def _judge(self, values: Array) -> list[tuple[str, Array]]:
        with np.errstate(invalid="ignore"):  # some bits of NaN are noticed even by a cast
            values = values.astype(np.float64)
            finite = np.isfinite(values)
            judged = [
                ("not-a-number", np.isnan(values)),
                ("infinite-values", np.isinf(values)),
                ("negative-values", finite & (values < 0)),
                ("values-too-large", finite & (values > largest_value(whole=self.whole))),
            ]
            if not self.fractions:
                judged.append(("fractional-values", finite & (values != np.rint(values))))
        return judged

    def note(self, code: str, place: tuple[int, int] | None, value: float, number: int) -> None:
        fault = self.faults.setdefault(code, Fault(place, value))
        fault.number += number

    def pass_on(self, code: str, fault: Fault, place: tuple[int, int] | None, pointer: str) -> None:
        """Take over what was found in one of several files, with its place among all of them."""
        if code not in self.faults:
            self.faults[code] = Fault(place, fault.value, pointer=pointer)
        self.faults[code].number += fault.number

    def note_sum(self, row: int, column: int, value: float) -> None:
        """Entries for one cell and gene are added up, and can become too large together."""
        self.note("values-too-large", (row, column), value, 1)


def check_number_type(dtype: np.dtype[Any], pointer: str) -> None:
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        raise located(
            "not-numbers", pointer, f"{pointer} holds values of type {dtype}, not numbers."
        )


def largest_value(*, whole: bool) -> float:
    return float(LARGEST_COUNT if whole else np.finfo(np.float32).max)
