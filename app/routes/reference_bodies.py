"""The JSON of what administrators do with references."""

from __future__ import annotations

from typing import Annotated, Literal

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


class AliasBody(BaseModel):
    reference: str
    alias: str
    version: int
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
