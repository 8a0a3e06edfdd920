"""The JSON of inspections."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from app.routes.bodies import GeneCoverage


class InspectionBody(BaseModel):
    id: str
    terminal: bool = Field(description="False while the file is being checked.")
    acceptable: bool | None = Field(
        default=None, description="Whether POST /v1/queries would accept the file as it is."
    )
    inspection: dict[str, Any] | None = Field(
        default=None,
        description="What was found in the file; `problems` lists every finding with its code, "
        "severity, pointer and fix.",
    )
    problem: dict[str, Any] | None = Field(
        default=None, description="What POST /v1/queries would answer, where it would refuse."
    )
    gene_coverage: list[GeneCoverage] | None = Field(
        default=None, description="With every ready reference, where the file is acceptable."
    )
    links: dict[str, str] = Field(
        default_factory=dict, description="Empty once nothing of the file is kept any more."
    )
