"""One damaged file from a seed, a kind and a number, and from nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from .arrays import ARRAYS
from .bases import ARCHIVES, BASES, write_bases
from .choosing import Misses
from .flips import flipped
from .objects import OBJECTS

KINDS = ("flips", "mutants")
TRIES = 20
MOST_MUTATIONS = 3
ALSO_FLIPPED = 0.1
CANARY_COUNT = 7_654_321
"""What the canary holds and no other file does: a query with it has read a file not its own."""


class Mutants:
    """Writes the damaged files. The canary lies beside them, for links that lead out."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed = seed
        self.paths = write_bases(folder / "bases", BASES)
        archives = write_bases(folder / "bases", ARCHIVES)
        hdf5 = [path.read_bytes() for path in self.paths]
        self._bases = {
            "mutants": hdf5,
            "flips": hdf5 + [path.read_bytes() for path in archives],
        }
        self.canary = folder / "canary.h5"
        with h5py.File(self.canary, "w") as file:
            file["data"] = np.full((60, 40), CANARY_COUNT, dtype=np.float32)

    def write(self, kind: str, number: int, path: Path) -> None:
        rng = np.random.default_rng([self.seed, KINDS.index(kind), number])
        bases = self._bases[kind]
        base = bases[number % len(bases)]
        if kind == "flips":
            path.write_bytes(flipped(base, rng))
            return
        path.write_bytes(base)
        with h5py.File(path, "r+", locking=False) as file:
            for _ in range(int(rng.integers(1, MOST_MUTATIONS + 1))):
                self._mutate(file, rng)
        if rng.random() < ALSO_FLIPPED:
            path.write_bytes(flipped(path.read_bytes(), rng))

    def _mutate(self, file: h5py.File, rng: np.random.Generator) -> None:
        """One change; some do not fit what earlier ones left, then another is drawn."""
        for _ in range(TRIES):
            mutation = OBJECTS if rng.random() < 0.5 else ARRAYS
            chosen: Callable[..., None] = mutation[int(rng.integers(len(mutation)))]
            try:
                chosen(file, rng, self.canary)
            except (Misses, KeyError, ValueError, TypeError, OSError, RuntimeError, IndexError):
                continue
            except (AttributeError, OverflowError, UnicodeError, MemoryError):
                continue
            return
