"""Files of one matrix, which needs no name: what `QueryFile` asks of all of them."""

from __future__ import annotations

from typing import Any

from worker.intake.attached import Attached
from worker.intake.findings import Findings, located
from worker.intake.tables import Table

ONLY_MATRIX = "X"


class OneMatrix:
    """The part of a `QueryFile` that does not depend on how the matrix is stored."""

    def facts(self) -> dict[str, Any]:
        return {}

    def matrices(self) -> list[str]:
        return [ONLY_MATRIX]

    def attached(self, cells: Table, findings: Findings) -> list[Attached]:
        return []

    def candidates(self) -> list[str]:
        return self.matrices()


def only_matrix(layer: str | None, pointer: str) -> None:
    """Refuse to look for layers in a format that has none."""
    if layer is not None and layer.strip("/") not in {ONLY_MATRIX, "matrix"}:
        raise located(
            "unknown-layer",
            pointer,
            f"The file has one matrix and no layers, so no `{layer}`.",
            "Leave `layer` out.",
        )
