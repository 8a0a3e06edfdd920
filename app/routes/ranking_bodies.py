"""The JSON of rankings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.routes.bodies import GeneCoverage, Resource


class UnexplainedGene(BaseModel):
    gene: str
    share: float = Field(description="Of the counts of these cells.")
    expected: float = Field(description="What the reference's forward pass makes of it.")


class RankedItem(GeneCoverage):
    explained: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="exp(own_misfit - misfit), at most 1: as well as the reference's own cells. "
        "Null where nothing could be compared; the verdict says why.",
    )
    score: float | None = Field(
        default=None, description="explained x expected_expression_covered; sorts the list."
    )
    verdict: str
    misfit: float | None = Field(
        default=None,
        description="KL divergence of the cells' mean profile from their reconstruction, in nats "
        "a count.",
    )
    misfit_error: float | None = Field(default=None, description="Its standard error.")
    own_misfit: float | None = Field(default=None, description="The same of the reference's cells.")
    own_cells: Literal["held-out", "all", "simulated"] | None = Field(
        default=None, description="Which cells of the reference's that was measured on."
    )
    library_size: int | None = Field(
        default=None, description="Counts a cell, at which both were measured."
    )
    n_cells: int | None = Field(default=None, description="Cells of the sample that have so many.")
    unexplained_genes: list[UnexplainedGene] = Field(
        default=[], description="Those that speak most against it: worst first."
    )
    problem: dict[str, Any] | None = Field(
        default=None, description="Why this reference could not be compared."
    )
    links: dict[str, str]


class RankingBody(Resource):
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    query: str
    progress: float = Field(ge=0, le=1)
    stage: str | None = None
    items: list[RankedItem]
