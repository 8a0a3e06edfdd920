"""What one upload may declare and cost before intake refuses it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

MIB = 1024**2
GIB = 1024**3

LARGEST_COUNT = 2**24
"""Above this, whole numbers are no longer exact in the float32 of the canonical query."""


@dataclass(frozen=True)
class Limits:
    """Bounds on one file. The defaults admit every real atlas of up to 50 million cells."""

    memory_bytes: int = 4 * GIB
    """Address space that a check may add to that of the process it was forked from."""
    cpu_seconds: int = 600
    output_bytes: int = 1024 * GIB
    objects: int = 100_000
    depth: int = 32
    columns: int = 10_000
    """Of one table, by the names that it lists."""
    cells: int = 50_000_000
    genes: int = 5_000_000
    dataset_bytes: int = 4096 * GIB
    expansion: float = 400.0
    """Declared bytes of one dataset over those of the whole file. gzip reaches 1,032 on zeros, the
    sparsest real matrices, stored dense, about 300."""
    expansion_floor: int = 256 * MIB
    """Datasets that declare less may expand further than that, but not beyond `packing`."""
    packing: int = 1032
    """The same of smaller datasets: deflate reaches no more, whatever it packs."""
    packing_floor: int = 16 * MIB

    @property
    def chunk_bytes(self) -> int:
        """HDF5 unpacks a chunk whole, next to its packed bytes."""
        return min(self.memory_bytes // 4, 256 * MIB)

    @property
    def vector_bytes(self) -> int:
        """A column of obs or var, held whole."""
        return self.memory_bytes // 8

    @property
    def transpose_entries(self) -> int:
        """Entries of a CSC matrix turned in one pass: an index and a value each, 8 bytes."""
        return self.memory_bytes // 4 // 8

    def for_size(self, size: int) -> Self:
        """What a file of this many bytes may cost: a small one needs little, or is no honest one.

        A million bytes of honest counts, packed as tightly as real ones ever are, are proved in a
        tenth of this time and memory.
        """
        return replace(
            self,
            memory_bytes=min(self.memory_bytes, 768 * MIB + 16 * size),
            cpu_seconds=min(self.cpu_seconds, 8 + size // (MIB // 4)),
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
