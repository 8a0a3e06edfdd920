"""Which cells of a query are mapped: clauses about obs columns, plain data and never code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

MOST_CLAUSES = 32
MOST_VALUES = 10_000
CONDITIONS = ("in", "not_in", "min", "max", "missing")

Text = Annotated[str, StringConstraints(max_length=500)]
Value = bool | int | Annotated[float, Field(allow_inf_nan=False)] | Text
Values = Annotated[list[Value], Field(min_length=1, max_length=MOST_VALUES)]
Bound = Annotated[float, Field(allow_inf_nan=False)]


class Clause(BaseModel):
    """What a column must say of a cell that is kept; every condition given must hold.

    Values are compared by name, so that 1, 1.0 and "1" are one. A cell without a value is in no
    list, above and below no bound.
    """

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        json_schema_extra={"examples": [{"column": "condition", "in": ["control", "treated"]}]},
    )

    column: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    within: Values | None = Field(default=None, alias="in", description="Kept: these values.")
    not_in: Values | None = Field(default=None, description="Left out: these values.")
    min: Bound | None = Field(default=None, description="Kept: numbers from here on.")
    max: Bound | None = Field(default=None, description="Kept: numbers up to here, included.")
    missing: bool | None = Field(
        default=None, description="true: kept are cells without a value; false: those with one."
    )

    @model_validator(mode="after")
    def _must_say_something(self) -> Self:
        if all(value is None for name, value in self if name != "column"):
            raise ValueError(f"a clause needs one of {', '.join(CONDITIONS)}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max, so no cell could be kept")
        return self

    def as_dict(self) -> dict[str, Any]:
        """Only what was given, in the words of the request."""
        return self.model_dump(by_alias=True, exclude_none=True)

    def kept(self, names: Sequence[str | None]) -> list[bool]:
        """Which of these values, by name, are kept; None stands for a cell without a value.

        Bounds are not looked at: they are about numbers.
        """
        within = None if self.within is None else names_of(self.within)
        without = names_of(self.not_in or [])
        return [
            (self.missing is None or self.missing == (name is None))
            and (within is None or name in within)
            and name not in without
            for name in names
        ]

    @property
    def is_bounded(self) -> bool:
        return self.min is not None or self.max is not None


Clauses = Annotated[list[Clause], Field(min_length=1, max_length=MOST_CLAUSES)]
CellFilter = Clause | Clauses
_FILTER: TypeAdapter[Clause | list[Clause]] = TypeAdapter(CellFilter)


def read_clauses(stored: Any) -> list[Clause]:
    """The clauses of a mapping's options; none where it has no filter."""
    if not stored:
        return []
    found = _FILTER.validate_python(stored)
    return found if isinstance(found, list) else [found]


def parse_clauses(text: str) -> list[Clause]:
    """The clauses in a query string or a form.

    Raises:
        ValueError: the text is no such JSON, or says what no clause can.
    """
    try:
        found = _FILTER.validate_json(text)
    except ValidationError as error:
        said = "; ".join(dict.fromkeys(each["msg"] for each in error.errors()[:3]))
        raise ValueError(
            f'takes JSON such as {{"column": "condition", "in": ["control"]}}: {said}'
        ) from error
    if "\0" in text or "\\u0000" in text:
        raise ValueError("holds a NUL character")
    return found if isinstance(found, list) else [found]


def names_of(values: list[Any]) -> set[str]:
    """Values as the names that a column's values get."""
    return {
        str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        for value in values
    }
