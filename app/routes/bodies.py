"""The JSON of requests and answers, as pydantic schemas with examples."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from models_store.recipe_evidence import RecipeEvidence

Item = TypeVar("Item")

Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Tags = Annotated[list[Tag], Field(max_length=64)]

LICENCE = Field(default=None, description="SPDX, as its builder stated it; null: not stated.")


FORCE = (
    "Map although the query lacks too many of the reference's genes, or is of another species; the "
    "verdict is then `fail`."
)


class Sent(BaseModel):
    """A request body: misspelt fields are errors, not silently ignored."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_nul(cls, given: Any) -> Any:
        """PostgreSQL takes no NUL character in a text; better told here than by the database."""
        if isinstance(given, dict):
            for name, value in given.items():
                if _holds_nul(value):
                    raise ValueError(f"{name} holds a NUL character")
        return given


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(each) for pair in value.items() for each in pair)
    return isinstance(value, list) and any(_holds_nul(each) for each in value)


class Listed(BaseModel, Generic[Item]):
    items: list[Item]
    next: str | None = Field(default=None, description="Pass as ?cursor= to get the next page.")


class Resource(BaseModel):
    id: str
    state: str
    terminal: bool = Field(description="True when the state will not change by itself any more.")
    created_at: datetime
    updated_at: datetime
    links: dict[str, str]
    problem: dict[str, Any] | None = None


class PartBody(BaseModel):
    filename: str
    bytes: int
    sha256: str


class QueryItem(Resource):
    filename: str
    bytes: int
    sha256: str = Field(
        description="Of a query in several files, that of their SHA-256s, one a line."
    )
    parts: list[PartBody] | None = Field(
        default=None, description="The files in their order, where there were several."
    )
    keeps_upload: bool = Field(
        description="False: the file is removed once it is checked; see obs_policy."
    )
    options: dict[str, Any]
    external_id: str | None = None
    tags: list[str]


class GeneCoverage(BaseModel):
    reference: str
    version: int
    n_matched: int
    n_panel: int
    share: float
    expected_expression_covered: float
    query_column: str
    reference_column: str
    advice: Literal["good", "low", "refused"] = Field(
        description="By the lower of `share` and `expected_expression_covered`, and by the species."
    )
    refuse_below: float
    warn_below: float
    matched_as: dict[str, int] = Field(
        description="Genes of the query that matched: by their name as it stands (`exact`), "
        "without prefix, version or spaces (`plain`), as a repeat of another gene "
        "(`made-unique`), or in another `spelling`."
    )
    query_species: list[str] = Field(description="As the names tell it; empty: they do not.")
    reference_species: list[str]
    species_differ: bool
    columns_tried: list[dict[str, Any]]
    missing_genes: list[dict[str, Any]] = Field(
        description="The most informative genes of the reference that the query lacks, at most 20; "
        "regions, where `kind` says so."
    )
    kind: Literal["gene", "region", "protein"] = Field(
        default="gene",
        description="Whose figures these are: of a reference of several kinds, genes or regions, "
        "whichever the query covers better. Proteins never refuse a query.",
    )
    kinds: list[dict[str, Any]] = Field(
        default=[], description="Coverage of each kind of features that the reference has."
    )
    licence: str | None = LICENCE
    citation: str | None = None


class QueryBody(QueryItem):
    inspection: dict[str, Any] | None = Field(
        default=None,
        description="What was found in the file, refused or not; `problems` lists every finding "
        "with its code, severity, pointer and fix. Null until the check is done.",
    )
    gene_coverage: list[GeneCoverage] | None = Field(
        default=None, description="With every ready reference; null until the query is ready."
    )


class ResultItem(BaseModel):
    name: str
    bytes: int
    sha256: str
    media_type: str
    links: dict[str, str]


class MappingBody(Resource):
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    query: str
    reference: str
    version: int
    alias: str | None = Field(default=None, description="What was asked for, as in NAME@ALIAS.")
    reference_licence: str | None = LICENCE
    reference_citation: str | None = None
    recipe: str
    options: dict[str, Any]
    progress: float = Field(ge=0, le=1)
    stage: str | None = None
    queue_position: int | None = Field(default=None, description="1: next. Null once it runs.")
    eta_seconds: float | None = Field(default=None, description="Null while unknown.")
    verdict: dict[str, Any] | None = Field(
        default=None, description="`result` and `reasons`; null where nothing was judged."
    )
    warnings: list[dict[str, Any]] = Field(
        default=[],
        description="What has become of the reference version since: deprecated, withdrawn.",
    )
    results: list[ResultItem]
    summary: dict[str, Any] | None = None
    cancel_requested: bool
    attempt: int
    external_id: str | None = None
    tags: list[str]
    started_at: datetime | None = None
    finished_at: datetime | None = None


class VersionItem(BaseModel):
    version: int
    state: str
    licence: str | None = LICENCE
    citation: str | None = None
    links: dict[str, str]


class ReferenceBody(Resource):
    state: Literal["building", "ready", "failed", "deprecated", "withdrawn"]
    name: str
    version: int
    licence: str | None = LICENCE
    citation: str | None = None
    state_reason: str | None = Field(default=None, description="Why it is deprecated or withdrawn.")
    successor: str | None = Field(default=None, description="NAME@VERSION to use instead.")
    progress: float
    stage: str | None = None
    description: dict[str, Any] | None = Field(
        default=None, description="From the manifest; null until the version is built."
    )
    recipe_evidence: RecipeEvidence | None = Field(
        default=None,
        description="By what figures of held-out batches the default recipe was chosen, or why it "
        "is the release's; null for a version that is not built, or older than such searches.",
    )
    model_card: str | None = None
    aliases: dict[str, int] = Field(
        default={}, description="Of the reference's name: the version that each names now."
    )
    versions: list[VersionItem] | None = None


class KeyIn(Sent):
    name: Name = Field(examples=["sequencer-2"])
    owner: Name | None = Field(default=None, description="Default: the owner of the asking key.")
    scopes: list[Literal["read", "submit", "admin"]] = ["read", "submit"]
    expires_at: datetime | None = None


class KeyItem(BaseModel):
    id: str
    name: str
    owner: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    links: dict[str, str]


class NewKey(KeyItem):
    key: str = Field(description="Shown this once; only its hash is kept.")


class ProblemBody(BaseModel):
    """RFC 9457, with what to do about it and whose move is next."""

    type: str
    title: str
    status: int
    detail: str
    fix: str
    fault: Literal["data", "service"]
    errors: list[dict[str, str]] = []
