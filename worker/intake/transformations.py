"""What may have been done to the counts of a cell before they were written, and its undoing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Transformation:
    """A function of counts that had been scaled by one factor a cell."""

    name: str
    undo: Callable[[Floats], Floats]
    """From stored values to scaled counts."""
    redo: Callable[[Floats], Floats]
    amplification: Callable[[Floats], Floats]
    """By how much a relative error of a stored value grows when it is undone, about."""
    base: str | None = None
    """Of the logarithm; None where it is none."""


def _logarithm(name: str, unit: float) -> Transformation:
    return Transformation(
        f"log1p base {name}",
        undo=lambda values: np.expm1(values * unit),
        redo=lambda scaled: np.log1p(scaled) / unit,
        amplification=lambda values: np.maximum(1.0, values * unit),
        base=name,
    )


LOGARITHMS = (
    _logarithm("e", 1.0),
    _logarithm("2", float(np.log(2.0))),
    _logarithm("10", float(np.log(10.0))),
)
SCALED = Transformation(
    "scaled", undo=lambda v: v, redo=lambda s: s, amplification=lambda v: np.ones_like(v)
)
SQUARE_ROOT = Transformation(
    "square root", undo=np.square, redo=np.sqrt, amplification=lambda v: np.full_like(v, 2.0)
)
ARCSINH = Transformation(
    "arcsinh", undo=np.sinh, redo=np.arcsinh, amplification=lambda v: np.maximum(1.0, v)
)
STEEPEST_LOG = 25.0
"""Logarithms of counts, in any base used, end below this: 2**25 counts."""
