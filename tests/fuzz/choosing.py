"""What a mutation is, and how it chooses where to strike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Mutation = Callable[[h5py.File, np.random.Generator, Path], None]
"""Changes an open file; the path is that of a file which no check may read."""

STRUCTURE = ("X", "obs", "var", "raw.X", "raw.var", "layers")
"""Where most mutations strike: what a check does read."""


class Misses(Exception):
    """There is nothing in this file that the mutation could change."""


def pick(rng: np.random.Generator, among: Sequence[Any]) -> Any:
    if not len(among):
        raise Misses
    return among[int(rng.integers(len(among)))]


def either(rng: np.random.Generator) -> bool:
    return bool(rng.integers(2))


def objects_of(file: h5py.File, kind: type = object) -> list[str]:
    """The paths of all objects of a kind, sorted: a choice is the same on every machine."""
    found: list[str] = []

    def note(name: str, each: Any) -> None:
        if isinstance(each, kind):
            found.append(name)

    file.visititems(note)
    read = [name for name in found if name.split("/")[0] in STRUCTURE]
    return sorted(found) + 3 * sorted(read)


def dataset_in(file: h5py.File, rng: np.random.Generator, kinds: str = "") -> str:
    paths = objects_of(file, h5py.Dataset)
    return str(pick(rng, [p for p in paths if not kinds or file[p].dtype.kind in kinds]))


def matrix_part(file: h5py.File, rng: np.random.Generator, name: str = "") -> str:
    names = (name,) if name else ("indptr", "indices", "data", "codes")
    paths = objects_of(file, h5py.Dataset)
    return str(pick(rng, [p for p in paths if p.rsplit("/", 1)[-1] in names and file[p].ndim == 1]))
