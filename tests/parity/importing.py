"""Saves that scvi-tools wrote, as orders to import them."""

from __future__ import annotations

from pathlib import Path

from worker.imports.files import find_save
from worker.imports.order import CellOptions, ImportOptions, ImportOrder


def import_order(save: Path, scratch: Path, cells: CellOptions | None = None) -> ImportOrder:
    """To import a save, with the bundle in a folder of the scratch."""
    out = scratch / "bundle"
    out.mkdir(parents=True)
    options = ImportOptions("oracle", cells=cells or CellOptions())
    return ImportOrder(find_save(save), "oracle", options, scratch, out, threads=1)
