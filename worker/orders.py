"""What the supervising parent asks of the warm child, as plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Report = Callable[[str, float], None]
"""Called with the stage and the share of the job done; raises when the job is cancelled."""


@dataclass(frozen=True)
class MapOrder:
    mapping_id: str
    canonical: Path
    bundle: Path
    bundle_digest: str
    """Names the exact reference version, so that a warm one is found again."""
    out: Path
    options: dict[str, Any]
    query_facts: dict[str, Any]
    threads: int
    device: str


@dataclass(frozen=True)
class BuildOrder:
    name: str
    version: int
    canonical: Path
    out: Path
    options: dict[str, Any]
    source: dict[str, Any]
    threads: int
    device: str
