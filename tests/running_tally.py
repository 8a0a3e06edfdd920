"""Figures kept in a file, so that a long run can go on where it stopped."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class State(Generic[T]):
    """The tallies by name, in one JSON file; each a dataclass of counters and plain values."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path, self._kind = path, kind

    def read(self, name: str) -> T:
        assert is_dataclass(self._kind)
        counters = {each.name for each in fields(self._kind) if each.default_factory is Counter}
        found = self._all().get(name, {})
        return self._kind(**{k: Counter(v) if k in counters else v for k, v in found.items()})

    def write(self, name: str, tally: T) -> None:
        """All or nothing: an interrupt leaves the file as it was."""
        beside = self._path.with_suffix(".part")
        beside.write_text(json.dumps(self._all() | {name: vars(tally)}, indent=2))
        beside.replace(self._path)

    def _all(self) -> dict[str, Any]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}
