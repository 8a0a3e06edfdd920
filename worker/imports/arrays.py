"""numpy's arrays as pickles write them, rebuilt from bytes and lists without numpy's own loader."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.imports.refusal import too_large, unreadable

PLAIN = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|S\d{1,6}|U\d{1,6}|O8?|[?])")
"""Types of numbers, of text and of Python objects; no records, no dates."""
MOST_ELEMENTS = 200_000_000
ELEMENTS = (str, int, float, bool, type(None))
"""What an array of objects may hold. Categories and names are nothing else."""

Array = npt.NDArray[Any]


class Dtype:
    """A dtype on its way: the type's name comes first, its byte order with the state."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) >= 5 and state[1] in {"<", ">", "|", "="}):
            raise unreadable("it describes a type of array in an unknown way")
        if state[2] is not None or state[3] is not None or state[4] is not None:
            raise unreadable("it holds an array of records")
        self.name = state[1] + self.name.lstrip("<>|=")

    def numpy(self) -> np.dtype[Any]:
        return np.dtype("O" if "O" in self.name else self.name)


class PickledArray:
    """An array on its way: `_reconstruct` makes it empty, its state fills it."""

    def __init__(self) -> None:
        self.values: Array = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise unreadable("it holds an array in an unknown form")
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, Dtype):
            raise unreadable("it holds an array without a type")
        self.values = fill(data, dtype, shape, "F" if is_fortran else "C")


def fill(data: Any, dtype: Dtype, shape: Any, order: str) -> Array:
    """Bytes or a list of objects in their shape."""
    sizes = checked_shape(shape)
    kind, count = dtype.numpy(), int(np.prod(sizes, dtype=object))
    if count > MOST_ELEMENTS:
        raise too_large(f"an array of {count:,} elements")
    if kind.kind == "O":
        values = _objects(data, count)
    elif isinstance(data, bytes | bytearray) and len(data) == count * kind.itemsize:
        values = np.frombuffer(data, dtype=kind)
    else:
        raise unreadable("it holds an array whose bytes do not fit its shape")
    return values.reshape(sizes, order="F" if order == "F" else "C")


def _objects(data: Any, count: int) -> Array:
    if not isinstance(data, list) or len(data) != count:
        raise unreadable("it holds an array of objects whose number does not fit its shape")
    values = np.empty(count, dtype=object)
    for at, each in enumerate(data):
        if not isinstance(each, ELEMENTS):
            raise unreadable(f"it holds an array with a {type(each).__name__} in it")
        values[at] = each
    return values


def checked_shape(shape: Any) -> tuple[int, ...]:
    """A shape of at most eight whole numbers from 0 up."""
    if not isinstance(shape, tuple | list) or len(shape) > 8:
        raise unreadable("it holds an array whose shape is no shape")
    if not all(type(size) is int and 0 <= size < 2**48 for size in shape):
        raise unreadable("it holds an array whose shape is no shape")
    return tuple(shape)


def _dtype(name: Any, *_: Any) -> Dtype:
    if not isinstance(name, str) or not PLAIN.fullmatch(name):
        raise unreadable(f"it holds an array of the type {str(name)[:40]!r}")
    return Dtype(name)


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray()


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if not isinstance(dtype, Dtype):
        raise unreadable("it holds a number without a type")
    if dtype.numpy().kind == "O":
        return data if isinstance(data, ELEMENTS) else None
    data = data.encode("latin-1") if isinstance(data, str) else data
    return fill(data, dtype, (), "C").item()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    found = PickledArray()
    if not isinstance(dtype, Dtype):
        raise unreadable("it holds an array without a type")
    found.values = fill(data, dtype, shape, str(order))
    return found


CORES = ("numpy.core", "numpy._core")
"""numpy 2 renamed the module of its loaders."""

BUILDERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _dtype,
    **{(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in CORES},
    **{(f"{core}.numeric", "_frombuffer"): _frombuffer for core in CORES},
}
