"""What a mapping decodes beyond the latent: asked for by name, plain data."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from models_store.outputs import OutputName

MOST_OUTPUTS = 8
MOST_FEATURES = 20_000

Text = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class Output(BaseModel):
    """One file of decoded values: a row for each cell, a column for each feature."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "output": "normalised_expression",
                    "features": ["CD3E", "MS4A1"],
                    "batch": "donor1",
                }
            ]
        },
    )

    output: OutputName = Field(
        description="`normalised_expression`: each gene's share of a cell's RNA. `accessibility`: "
        "the probability that a region is open (of POISSONVI, its share of a cell's fragments). "
        "`protein_foreground`: expected counts of a protein beyond its background. "
        "`protein_probability`: the probability that a protein's count is foreground. `outputs` of "
        "a reference's description says which it gives."
    )
    features: Annotated[list[Text], Field(min_length=1, max_length=MOST_FEATURES)] | None = Field(
        default=None,
        description="Genes (by id or symbol), regions or proteins as the reference names them. "
        "Default: all proteins for outputs of proteins; the other outputs need them.",
    )
    batch: Text | None = Field(
        default=None,
        description="Decode as if every cell came from this batch of the reference. Default: from "
        "its own.",
    )

    def as_dict(self) -> dict[str, Any]:
        """Only what was given."""
        return self.model_dump(exclude_none=True)


Outputs = Annotated[list[Output], Field(max_length=MOST_OUTPUTS)]
_OUTPUTS: TypeAdapter[list[Output]] = TypeAdapter(Outputs)


def parse_outputs(text: str) -> list[Output]:
    """The outputs in a query string or a form.

    Raises:
        ValueError: the text is no such JSON, or says what no output can.
    """
    try:
        found = _OUTPUTS.validate_json(text)
    except ValidationError as error:
        said = "; ".join(dict.fromkeys(each["msg"] for each in error.errors()[:3]))
        raise ValueError(
            'takes JSON such as [{"output": "normalised_expression", "features": ["CD3E"]}]: '
            f"{said}"
        ) from error
    if "\0" in text or "\\u0000" in text:
        raise ValueError("holds a NUL character")
    return found
