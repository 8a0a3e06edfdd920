"""What an administrator asks of an import, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from worker.imports.files import FoundSave
from worker.imports.limits import SaveLimits
from worker.intake.limits import Limits
from worker.layers import Layers, find_layers

Report = Callable[[str, float], None]
"""Tell the stage and how far it has come, 0 to 1."""


@dataclass(frozen=True)
class CellOptions:
    """Where the reference's cells are and what their columns are called."""

    path: Path | None = None
    """None: those that were saved beside the model, if any."""
    left_out: bool = False
    latent_key: str | None = None
    labels_keys: tuple[str, ...] = ()
    umap_key: str | None = None
    batch_key: str | None = None
    """None: what the column was called when the model was trained."""
    layer: str | None = None


@dataclass(frozen=True)
class ImportOptions:
    """Everything that a person may say of an import, beside where it is."""

    name: str
    cells: CellOptions = field(default_factory=CellOptions)
    licence: str | None = None
    citation: str | None = None
    species: str | None = None
    refuse_below: float | None = None
    """Gene coverage that a query needs; None: as `models_store.manifest.Thresholds` has it."""
    warn_below: float | None = None
    recipe_search: Literal["auto", "off"] = "auto"

    def as_dict(self) -> dict[str, Any]:
        told = asdict(self)
        told["cells"]["path"] = None if self.cells.path is None else self.cells.path.name
        return told


@dataclass(frozen=True)
class ImportOrder:
    """One import, from files to a bundle in the folder `out`."""

    found: FoundSave
    source: str
    """What it was imported from, as a person named it."""
    options: ImportOptions
    scratch: Path
    out: Path
    threads: int
    save_limits: SaveLimits = field(default_factory=SaveLimits)
    limits: Limits = field(default_factory=Limits)
    layers: Layers = field(default_factory=find_layers)
    """What holds the readers of the files."""
