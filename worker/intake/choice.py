"""Which parts of a file the caller means, where it has several."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """Which of a file's matrices the caller means."""

    genome: str | None = None
    modality: str | None = None
    proteins: str | None = None
    """The table of obsm that holds proteins."""
    protein_names: str | None = None
    """The list in uns that names its columns."""
    known_proteins: tuple[str, ...] = ()
    """What its columns are called if nothing in the file names them."""
    layer: str | None = None
    """The matrix; None: found by what it holds."""
