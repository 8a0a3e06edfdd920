"""The JSON of what becomes of references: retired, named, seen, compared."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.retirement import LONGEST_REASON
from app.routes.bodies import Name, Sent

Reason = Annotated[str, Field(min_length=1, max_length=LONGEST_REASON)]


class RetireIn(Sent):
    reason: Reason = Field(examples=["Two donors were swapped."])
    successor: Name | None = Field(
        default=None, description="The version to use instead, as NAME@VERSION; it must be ready."
    )


class AliasIn(Sent):
    version: int = Field(gt=0, description="The version that it names from now on.")


class Terms(BaseModel):
    """Of the version that an answer names."""

    reference: str
    version: int
    licence: str | None = Field(description="SPDX expression.")
    citation: str | None


class AliasBody(Terms):
    alias: str
    previous: int | None = Field(default=None, description="The version that it named before.")
    links: dict[str, str]


class VisibilityIn(Sent):
    owners: list[Name] | None = Field(
        default=None, description="Who sees the reference, beside administrators; null: everybody."
    )
    cells: Literal["open", "admin"] | list[Name] = Field(
        default="open",
        description="Who gets cells.parquet: whoever sees the reference, administrators alone, or "
        "these owners and administrators.",
    )


class VisibilityBody(BaseModel):
    reference: str
    owners: list[str] | None
    cells: Literal["open", "admin"] | list[str]
    links: dict[str, str]


class DifferenceBody(BaseModel):
    n_before: int
    n_after: int
    gained: list[str]
    lost: list[str]


class ComparisonBody(BaseModel):
    before: str
    after: str
    genes: DifferenceBody
    labels: dict[str, DifferenceBody] = Field(description="By label level.")
    batches: DifferenceBody
    extra_covariates: dict[str, DifferenceBody]
    changed: dict[str, tuple[Any, Any]] = Field(
        description="Fields of the manifest that differ, before and after: architecture, recipe, "
        "thresholds, licence, citation and others."
    )
    expected_expression_correlation: float | None = Field(
        description="Pearson's, of log(1 + 10,000 x share of the counts), over shared genes."
    )


class AffectedItem(BaseModel):
    id: str
    owner: str
    external_id: str | None
    state: str
    created_at: datetime
    alias: str | None = Field(description="What was asked for.")
    alias_names: int | None = Field(description="The version that this alias names now.")
    alias_moved: bool


class ImpactBody(Terms):
    n_mappings: int
    n_alias_moved: int = Field(description="Asked for by an alias that names another version now.")
    items: list[AffectedItem]
    next: str | None = None
