"""Makes damaged files, in a child as well: the library may die of what it is made to write."""

from __future__ import annotations

from pathlib import Path

from .mutants import Mutants

_made: list[Mutants] = []
"""One, made before the first fork."""


def prepare(folder: str, seed: str) -> None:
    _made.append(Mutants(Path(folder), int(seed)))


def treat(kind: str, number: str, path: str) -> dict[str, bool]:
    _made[0].write(kind, int(number), Path(path))
    return {"written": True}
