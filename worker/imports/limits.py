"""What one save may declare and cost before it is refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True)
class SaveLimits:
    """Bounds on one save. The largest published scVI references have a hundred megabytes."""

    file_bytes: int = 4 * GIB
    pickle_bytes: int = 1 * GIB
    """The pickle alone: a save may list every cell that the model was trained on."""
    tensor_bytes: int = 4 * GIB
    entries: int = 100_000
    nodes: int = 5_000_000
    """Values in what is told of a save, counted where they stand: repeats count again."""
    depth: int = 32
    seconds: int = 600

    @property
    def memory_bytes(self) -> int:
        """Address space beyond that of the fresh process."""
        return 2 * self.file_bytes

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
