"""What the parent asks of the compute child, as plain values that travel as one line of JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

WARM_BYTES = 1024**3
"""What the references that a child keeps loaded may take together, unless it is told."""

Report = Callable[[str, float], None]
"""Tell the stage and how far it has come, 0 to 1; raises Cancelled when the work is to end."""


class Cancelled(Exception):
    """The work is to end now; whoever raised it through `report` clears up nothing else."""


@dataclass(frozen=True)
class MapOrder:
    """Map one query onto one reference version; results go to the folder `out`."""

    mapping_id: str
    canonical: Path
    bundle: Path
    manifest_sha256: str
    """The version that the registry means; the bundle must be just that."""
    out: Path
    options: dict[str, Any]
    query_facts: dict[str, Any]
    threads: int
    device: str
    reference_facts: dict[str, Any] = field(default_factory=dict)
    shards: tuple[Path, ...] = ()
    """Folders of the shards of a large query, in order; none where this order reads all cells."""


@dataclass(frozen=True)
class ShardOrder:
    """Project cells `start` to `stop` of a large query; the shard goes to the folder `out`."""

    canonical: Path
    bundle: Path
    manifest_sha256: str
    out: Path
    options: dict[str, Any]
    start: int
    stop: int
    threads: int
    device: str


@dataclass(frozen=True)
class SampleOrder:
    """Choose the cells of a query by which references are compared."""

    canonical: Path
    threads: int
    device: str


@dataclass(frozen=True)
class ExplainOrder:
    """Say how well one reference version explains these cells of a query."""

    canonical: Path
    bundle: Path
    manifest_sha256: str
    cells: tuple[int, ...]
    """Ascending."""
    threads: int
    device: str


@dataclass(frozen=True)
class BuildOrder:
    """Build a reference version from one query; the bundle goes to the folder `out`."""

    name: str
    version: int
    canonical: Path
    out: Path
    options: dict[str, Any]
    source: dict[str, Any]
    threads: int
    device: str


Order = MapOrder | ShardOrder | SampleOrder | ExplainOrder | BuildOrder
_KINDS: Mapping[str, type[Order]] = {
    "map": MapOrder,
    "shard": ShardOrder,
    "sample": SampleOrder,
    "explain": ExplainOrder,
    "build": BuildOrder,
}
_PATHS = ("canonical", "bundle", "out")


def as_json(order: Order) -> dict[str, Any]:
    kind = next(name for name, of in _KINDS.items() if isinstance(order, of))
    fields = {name: str(v) if name in _PATHS else v for name, v in asdict(order).items()}
    if isinstance(order, MapOrder):
        fields["shards"] = [str(folder) for folder in order.shards]
    return {"kind": kind, **fields}


def from_json(message: Mapping[str, Any]) -> Order:
    fields: dict[str, Any] = {n: Path(v) if n in _PATHS else v for n, v in message.items()}
    if "shards" in fields:
        fields["shards"] = tuple(Path(folder) for folder in fields["shards"])
    if "cells" in fields:
        fields["cells"] = tuple(fields["cells"])
    return _KINDS[fields.pop("kind")](**fields)
