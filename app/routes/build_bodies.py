"""The JSON of a request to build a reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from app.licences import LONGEST_CITATION
from app.routes.bodies import Name, Sent
from models_store.manifest import NAME_PATTERN

REFUSE_BELOW = (
    "Share of the panel's genes, and of their expected expression, below which a query is refused; "
    "default 0.5."
)


def _in_capitals(kind: Any) -> Any:
    """Manifests tell the kind in small letters."""
    return kind.upper() if isinstance(kind, str) else kind


class BuildIn(Sent):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "query": "4ad1f7e0c7a14d5e8f4f0b0a4c1f2d33",
                    "name": "pbmc",
                    "batch_key": "donor",
                    "labels_keys": ["cell_type"],
                }
            ]
        },
    )

    query: Name
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    kind: Annotated[
        Literal["SCVI", "SCANVI", "TOTALVI", "PEAKVI", "POISSONVI", "MULTIVI"],
        BeforeValidator(_in_capitals),
    ] = Field(
        default="SCVI",
        description="SCANVI also learns the labels of the first labels key; TOTALVI needs proteins "
        "beside genes, PEAKVI and POISSONVI regions, MULTIVI genes and regions.",
    )
    batch_key: Name | None = None
    labels_key: Name | None = Field(default=None, description="Short for one of labels_keys.")
    labels_keys: list[Name] = Field(default=[])
    unlabeled_category: Name | None = Field(
        default=None,
        description="SCANVI: the value that stands for no label; absent values always do.",
    )
    pretraining: bool = Field(
        default=False,
        description="SCANVI: train an SCVI first, then go on from it for a few epochs with labels.",
    )
    n_top_genes: int | None = Field(default=2000, gt=0)
    n_top_regions: int | None = Field(
        default=50_000,
        gt=0,
        description="Regions that are open in most cells; null: all that are open in any.",
    )
    genes: list[str] | None = Field(
        default=None,
        description="The panel's genes, instead of the most variable ones; of PEAKVI and "
        "POISSONVI, its regions. Proteins are always all that have a count.",
    )
    extra_categorical: list[Name] = Field(default=[])
    continuous: list[Name] = Field(default=[])
    size_factor_key: Name | None = None
    depth_key: Name | None = Field(
        default=None,
        description="MULTIVI, beside size_factor_key: column of each cell's depth in regions, 0 "
        "to 1, instead of one that is encoded.",
    )
    architecture: dict[str, int | float | str | bool] = Field(default={})
    max_epochs: int | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**32)
    recipe_search: Literal["auto", "off"] = Field(
        default="auto",
        description="Hold out whole batches, at most twice, to choose the default recipe by how "
        "well they map; `auto` does with two batches and 1,000 cells or more. Building then takes "
        "two to four times as long.",
    )
    condition_key: Name | None = Field(
        default=None,
        description="Column of the experimental condition: the default recipe is to keep the "
        "difference between its values.",
    )
    licence: Name | None = Field(default=None, description="SPDX, such as CC-BY-4.0.")
    citation: str | None = Field(default=None, max_length=LONGEST_CITATION)
    species: Name | None = None
    refuse_below: float | None = Field(default=None, ge=0, le=1, description=REFUSE_BELOW)
    warn_below: float | None = Field(default=None, ge=0, le=1, description="Warned about; 0.8.")
