"""Options that come with a file, as query parameters or as fields of the form."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Query
from pydantic import Field, ValidationError

from app.mappings import MappingRequest
from app.problems import MalformedRequest
from app.routes.answers import malformed
from app.routes.bodies import Name, Sent, Tags
from models_store.manifest import RecipeName

MAX_FILENAME = 255


class UploadOptions(Sent):
    layer: Name | None = Field(
        default=None, description="Where the matrix is: `layers/NAME`, `raw/X`; default `X`."
    )
    input: Literal["counts", "continuous"] = "counts"
    genome: Name | None = Field(
        default=None, description="Of a 10x .h5 with several: the one to take."
    )
    modality: Name | None = Field(
        default=None, description="Of an h5mu: the one to take; default `rna`, `gex` or the only."
    )
    unfiltered: Literal["keep"] | None = Field(
        default=None,
        description="`keep`: take a matrix of all droplets as it is, with its empty ones.",
    )
    sample: list[Name] = Field(
        default=[],
        max_length=96,
        description="For several files: what to call each sample, in their order.",
    )
    external_id: Name | None = None
    tag: Tags = Field(default=[])
    sha256: str | None = Field(default=None, description="Hexadecimal; checked when given.")

    def query_options(self) -> dict[str, Any]:
        """The part that intake reads."""
        asked = {
            "genome": self.genome,
            "modality": self.modality,
            "unfiltered": self.unfiltered,
            "sample": self.sample,
        }
        given = {name: value for name, value in asked.items() if value}
        return {"layer": self.layer, "input": self.input, **given}


class MapOptions(UploadOptions):
    reference: Name | None = Field(
        default=None, description="NAME, NAME@VERSION or NAME@ALIAS; needed, here or in the form."
    )
    version: int | None = Field(default=None, gt=0)
    batch_key: list[Name] | None = Field(default=None, description="May be repeated.")
    labels_key: Name | None = None
    recipe: RecipeName = "default"
    reuse_batches: bool = False
    size_factor_key: Name | None = None

    def mapping_request(self, query_id: str) -> MappingRequest:
        if self.reference is None:
            raise MalformedRequest(
                "The request does not say onto which reference to map.",
                fix="Add ?reference=NAME; GET /v1/references lists them.",
                errors=[{"pointer": "?reference", "detail": "missing"}],
            )
        return MappingRequest(
            query=query_id,
            reference=self.reference,
            version=self.version,
            batch_key=self.batch_key or None,
            labels_key=self.labels_key,
            recipe=self.recipe,
            reuse_batches=self.reuse_batches,
            size_factor_key=self.size_factor_key,
            external_id=self.external_id,
            tags=tuple(self.tag),
        )


UploadQuery = Annotated[UploadOptions, Query()]
MapQuery = Annotated[MapOptions, Query()]

Options = TypeVar("Options", bound=UploadOptions)


def with_fields(options: Options, fields: list[tuple[str, str]]) -> Options:
    """The query string's options, overridden by the form's fields."""
    if not fields:
        return options
    merged: dict[str, Any] = options.model_dump(exclude_unset=True)
    repeated: dict[str, list[str]] = {}
    for name, value in fields:
        if name in {"tag", "batch_key", "sample"}:
            repeated.setdefault(name, []).append(value)
        else:
            merged[name] = value
    try:
        return type(options).model_validate({**merged, **repeated})
    except ValidationError as error:
        raise malformed(
            [{**found, "loc": ("body", *found["loc"])} for found in error.errors()]
        ) from error


def safe_filename(name: str | None) -> str:
    """The last part of a path, without control characters; only ever shown, never opened."""
    last = re.split(r"[/\\]", name or "")[-1]
    plain = "".join(letter for letter in last if letter.isprintable()).strip()
    return plain[:MAX_FILENAME] or "query.h5ad"
