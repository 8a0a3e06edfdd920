"""Options that come with a file, as query parameters or as fields of the form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from fastapi import Query
from pydantic import Field, ValidationError, field_validator, model_validator

from app.cell_filters import Clause, parse_clauses
from app.mapping_requests import MappingRequest
from app.outputs import parse_outputs
from app.problems import MalformedRequest
from app.routes.answers import malformed
from app.routes.bodies import FORCE, Name, Sent, Tags
from app.routes.mapping_bodies import need_condition_key
from models_store.recipe import RecipeName

MAX_FILENAME = 255
ObsPolicy = Literal["needed", "listed", "all"]
INTAKE_KEYS = (
    "counts",
    "batch_key",
    "labels_key",
    "size_factor_key",
    "sample_key",
    "condition_key",
    "control_values",
    *("genome", "modality", "proteins_key", "protein_names_key", "unfiltered", "sample"),
)
REPEATED = frozenset({"tag", "batch_key", "control_values", "obs_keep", "sample"})


class UploadOptions(Sent):
    layer: Name | None = Field(
        default=None,
        description="Where the matrix is: `X`, `raw/X`, `layers/NAME`. By default raw counts are "
        "looked for in the usual layers, `raw/X` and `X`; continuous values in `X`.",
    )
    counts: Literal["as-is", "round"] | None = Field(
        default=None,
        description="What to do with counts that are no whole numbers, as SoupX, RSEM or alevin "
        "write them: keep or round them. By default they are refused.",
    )
    input: Literal["counts", "continuous"] = "counts"
    genome: Name | None = Field(
        default=None, description="Of a 10x .h5 with several: the one to take."
    )
    modality: Name | None = Field(
        default=None,
        description="Of an h5mu: the one to take, alone; default `rna`, `gex`, that of regions or "
        "the only, with the regions and proteins of the others.",
    )
    proteins_key: Name | None = Field(
        default=None,
        description="Table of obsm that holds protein counts; by default the one that is called as "
        "proteins are, `protein_expression` first.",
    )
    protein_names_key: Name | None = Field(
        default=None,
        description="List in uns that names its columns, where the table is an array; default "
        "`protein_names`.",
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
    batch_key: list[Name] | None = Field(
        default=None,
        description="obs column of the batches; may be repeated. Given with an upload, this and "
        "the other keys are looked at in its report.",
    )
    labels_key: Name | None = None
    size_factor_key: Name | None = None
    sample_key: Name | None = Field(default=None, description="obs column: whose cells.")
    condition_key: Name | None = Field(
        default=None, description="obs column: what was done to them."
    )
    control_values: list[Name] | None = Field(
        default=None,
        max_length=1000,
        description="Values of condition_key that are no treatment; may be repeated.",
    )
    obs_policy: ObsPolicy | None = Field(
        default=None,
        description="Which obs columns are kept: `all`, those that a key names (`needed`), or "
        "besides those in obs_keep (`listed`). The uploaded file itself is kept only with `all`. "
        "Default: CELLGRAFT_OBS_POLICY of the service, as GET /v1/service-info says.",
    )
    obs_keep: list[Name] | None = Field(
        default=None, max_length=1000, description="Columns that `listed` keeps; may be repeated."
    )

    @model_validator(mode="after")
    def _must_fit_together(self) -> Self:
        need_condition_key(self.control_values, self.condition_key)
        if self.obs_keep and self.obs_policy != "listed":
            raise ValueError("obs_keep is for obs_policy=listed")
        return self

    def query_options(self, *, obs_policy: str, needed: Sequence[str] = ()) -> dict[str, Any]:
        """The part that intake reads.

        Args:
            obs_policy: the service's own, where the caller names none.
            needed: further columns that no key names and a mapping needs all the same.
        """
        given = {name: getattr(self, name) for name in INTAKE_KEYS}
        policy = self.obs_policy or obs_policy
        if policy != "all":
            given |= {"obs_policy": policy, "obs_keep": [*(self.obs_keep or ()), *needed]}
        return {
            "layer": self.layer,
            "input": self.input,
            **{name: value for name, value in given.items() if value},
        }


class InspectOptions(UploadOptions):
    wait: float = Field(
        default=30, ge=0, le=30, description="Seconds to wait for the report; at most 30."
    )


class MapOptions(UploadOptions):
    reference: Name | None = Field(
        default=None, description="NAME, NAME@VERSION or NAME@ALIAS; needed, here or in the form."
    )
    version: int | None = Field(default=None, gt=0)
    recipe: RecipeName = "default"
    reuse_batches: bool = False
    cell_filter: str | None = Field(
        default=None,
        description="Which cells are mapped, as JSON: a clause such as "
        '`{"column": "condition", "in": ["control"]}` (or `not_in`, `min`, `max`, `missing`), or a '
        "list of which all must hold.",
    )

    outputs: str | None = Field(
        default=None,
        description="Files of decoded values, as JSON: a list such as "
        '`[{"output": "normalised_expression", "features": ["CD3E"]}]`.',
    )

    @field_validator("outputs")
    @classmethod
    def _must_be_outputs(cls, given: str | None) -> str | None:
        if given is not None:
            parse_outputs(given)
        return given

    @field_validator("cell_filter")
    @classmethod
    def _must_be_clauses(cls, given: str | None) -> str | None:
        if given is not None:
            parse_clauses(given)
        return given

    def clauses(self) -> list[Clause]:
        return [] if self.cell_filter is None else parse_clauses(self.cell_filter)

    def _outputs(self) -> list[dict[str, Any]]:
        given = [] if self.outputs is None else parse_outputs(self.outputs)
        return [output.as_dict() for output in given]

    force: bool = Field(default=False, description=FORCE)

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
            sample_key=self.sample_key,
            condition_key=self.condition_key,
            control_values=self.control_values or None,
            cell_filter=[clause.as_dict() for clause in self.clauses()] or None,
            outputs=self._outputs() or None,
            force=self.force,
            external_id=self.external_id,
            tags=tuple(self.tag),
        )


UploadQuery = Annotated[UploadOptions, Query()]
InspectQuery = Annotated[InspectOptions, Query()]
MapQuery = Annotated[MapOptions, Query()]

Options = TypeVar("Options", bound=UploadOptions)


def with_fields(options: Options, fields: list[tuple[str, str]]) -> Options:
    """The query string's options, overridden by the form's fields."""
    if not fields:
        return options
    merged: dict[str, Any] = options.model_dump(exclude_unset=True)
    repeated: dict[str, list[str]] = {}
    for name, value in fields:
        if name in REPEATED:
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
