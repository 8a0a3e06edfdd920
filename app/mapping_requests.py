"""What a caller asks of a mapping, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

READ_BY_WORKER = (
    "batch_key",
    "labels_key",
    "recipe",
    "reuse_batches",
    "size_factor_key",
    "sample_key",
    "condition_key",
    "control_values",
    "cell_filter",
    "outputs",
    "force",
)


@dataclass(frozen=True)
class MappingRequest:
    """Everything but `query`, `reference` and `version` is optional."""

    query: str
    reference: str
    version: int | None = None
    batch_key: list[str] | None = None
    labels_key: str | None = None
    recipe: str = "default"
    reuse_batches: bool = False
    size_factor_key: str | None = None
    sample_key: str | None = None
    condition_key: str | None = None
    control_values: list[str] | None = None
    """The values of the condition column that are no treatment."""
    cell_filter: list[dict[str, Any]] | None = None
    """Which cells are mapped; see `app.cell_filters`."""
    outputs: list[dict[str, Any]] | None = None
    """What is decoded beyond the latent; see `app.outputs`."""
    force: bool = False
    """Map whatever the gene coverage; the verdict is then `fail`."""
    external_id: str | None = None
    tags: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """The part that the worker reads."""
        return {name: getattr(self, name) for name in READ_BY_WORKER}
