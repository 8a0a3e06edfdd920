"""What a save says of itself as JSON: bounded, and without anything that only pickles can hold."""

from __future__ import annotations

import math
from itertools import accumulate
from operator import mul
from typing import Any

import numpy as np

from worker.imports.arrays import PickledArray
from worker.imports.limits import SaveLimits
from worker.imports.pickled import Inert, Mapping_
from worker.imports.refusal import too_large, unreadable
from worker.imports.tensors import Tensor
from worker.names import readable

LARGEST_NUMBER = 2**63


class Plain:
    """Turns values into JSON, and counts them: a pickle can say the same thing a million times."""

    def __init__(self, limits: SaveLimits) -> None:
        self.limits, self._left = limits, limits.nodes

    def of(self, value: Any, depth: int = 0) -> Any:
        """The value as JSON; what is no data becomes `{"inert": its name}`.

        Raises:
            Refusal: there is too much of it, or it is of no kind that a save describes itself by.
        """
        self._left -= 1
        if self._left < 0 or depth > self.limits.depth:
            raise too_large("it says more of itself than any save does")
        if value is None or isinstance(value, bool | str | int | float | bytes | np.generic):
            return _scalar(value)
        if isinstance(value, PickledArray):
            return self._array(value.values, depth)
        if isinstance(value, dict | Mapping_):
            return {_key(key): self.of(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.of(each, depth + 1) for each in value]
        return _stand_in(value)

    def _array(self, values: np.ndarray[Any, Any], depth: int) -> Any:
        # Without a width an array has no elements, and still a list for each of its rows.
        if max(accumulate(values.shape, mul), default=1) > self._left:
            raise too_large("it says more of itself than any save does")
        return self.of(values.tolist(), depth)


def _scalar(value: Any) -> Any:
    if isinstance(value, str | bytes):
        return readable(value)
    if isinstance(value, np.generic):
        return _scalar(value.item())
    _refuse_endless(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number; as the name of a category it reads the same
    return value


def _key(key: Any) -> str:
    if not isinstance(key, str | int | float | bool | type(None)):
        raise unreadable("it has a dictionary with keys that are no names")
    _refuse_endless(key)
    return readable(str(key))


def _refuse_endless(value: Any) -> None:
    """JSON's readers take no such number, and Python itself writes none of 4,300 digits."""
    if isinstance(value, int) and not -LARGEST_NUMBER <= value < LARGEST_NUMBER:
        raise unreadable("it holds a number of more than 64 bits")


def _stand_in(value: Any) -> dict[str, Any]:
    if isinstance(value, Inert):
        return {"inert": readable(value.name)}
    if isinstance(value, type) and issubclass(value, Inert):
        return {"inert": readable(value.name)}
    if isinstance(value, Tensor):
        return {"tensor": list(value.shape)}
    return {"inert": type(value).__name__}
