"""The JSON by which a mapping is asked for."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from app.cell_filters import CellFilter
from app.outputs import Outputs
from app.routes.bodies import FORCE, Name, Sent, Tags
from models_store.recipe import RecipeName


class MappingIn(Sent):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "query": "4ad1f7e0c7a14d5e8f4f0b0a4c1f2d33",
                    "reference": "pbmc",
                    "batch_key": "sample",
                    "external_id": "LIMS-2041",
                    "tags": ["plate-7"],
                }
            ]
        },
    )

    query: Name
    reference: Name = Field(description="NAME, NAME@VERSION or NAME@ALIAS.")
    version: int | None = Field(default=None, gt=0, description="Default: the newest ready one.")
    batch_key: Name | list[Name] | None = Field(
        default=None, description="One or more obs columns; none: the whole query is one batch."
    )
    labels_key: Name | None = Field(
        default=None,
        description="An obs column of labels. On a SCANVI reference, known ones take part in the "
        "fit; cells with another label, or none, are unlabelled.",
    )
    recipe: RecipeName = "default"
    reuse_batches: bool = Field(
        default=False, description="Query batches named like a reference batch use its weights."
    )
    size_factor_key: Name | None = None
    sample_key: Name | None = Field(default=None, description="An obs column: whose cells.")
    condition_key: Name | None = Field(
        default=None,
        description="An obs column: what was done to them. Warned of where batches say it too.",
    )
    control_values: Annotated[list[Name], Field(max_length=1000)] | None = Field(
        default=None, description="Values of condition_key that are no treatment."
    )
    cell_filter: CellFilter | None = Field(
        default=None,
        description="Which cells are mapped: a clause, or a list of which all must hold. Results "
        "have exactly these cells, as if no other had been uploaded.",
    )
    outputs: Outputs = Field(
        default=[], description="Files of decoded values, each asked for; none by default."
    )
    force: bool = Field(default=False, description=FORCE)
    external_id: Name | None = None
    tags: Tags = Field(default=[])

    @model_validator(mode="after")
    def _controls_need_conditions(self) -> Self:
        need_condition_key(self.control_values, self.condition_key)
        return self


def need_condition_key(control_values: list[str] | None, condition_key: str | None) -> None:
    """Raise ValueError for control values of no column."""
    if control_values and condition_key is None:
        raise ValueError("control_values are values of condition_key, which is missing")
