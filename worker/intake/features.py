"""All features of a query: those of its matrix, and those that stood beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from models_store.gene_columns import QueryGenes
from models_store.gene_names import NO_NAME
from worker.intake.attached import WHAT, Attached, first_repeat
from worker.intake.feature_types import feature_types, tell_other_features
from worker.intake.findings import Findings, located
from worker.intake.genes import INDEX, gene_columns
from worker.intake.identifiers import describe_identifiers
from worker.intake.tables import Table

UNTOLD = ""
"""The type of a feature of which the file does not say what it is."""


@dataclass(frozen=True)
class FeatureTable:
    """Names and types in the order of the canonical columns."""

    index: list[str]
    columns: dict[str, list[str]]
    types: list[str] | None
    """None where the file says nothing of them, and has nothing beside its matrix."""

    @classmethod
    def of(cls, var: Table, attached: Sequence[Attached], findings: Findings) -> Self:
        """The rows of var, then those of the attached features.

        Raises:
            Problem: a feature stands in the matrix and beside it.
        """
        columns, types = gene_columns(var, findings), feature_types(var)
        index = var.index.to_pylist()
        if not attached:
            return cls(index, columns, types)
        types = types or [UNTOLD] * len(index)
        for each in attached:
            index = [*index, *each.names]
            types = [*types, *each.types]
            columns = {name: [*known, *[NO_NAME] * each.width] for name, known in columns.items()}
        table = cls(index, columns, types)
        table._require_distinct(len(var), attached)
        return table

    def _require_distinct(self, n_main: int, attached: Sequence[Attached]) -> None:
        for kind in WHAT:
            rows = self.genes.rows_of(kind)
            seen = {self.index[row] for row in rows if row < n_main}
            twice = first_repeat([self.index[row] for row in rows if row >= n_main], seen)
            if twice is not None:
                names = " and ".join(f"`{each.name}`" for each in attached)
                raise located(
                    "features-repeat",
                    attached[0].path,
                    f"The {WHAT[kind]} of the file name {twice!r} twice: {names} repeats it.",
                    "Keep one of the two, or name the modality that you mean with modality=...",
                )

    @cached_property
    def genes(self) -> QueryGenes:
        return QueryGenes.of({INDEX: self.index, **self.columns}, self.types)

    def described(self, path: str, findings: Findings) -> dict[str, Any]:
        """What the report says of the genes; rows that are none are told of."""
        tell_other_features(path, self.types, findings)
        named = describe_identifiers(self.genes, path, findings)
        return {"example": self.index[:5], "columns": [INDEX, *self.columns], **named}

    def as_json(self) -> bytes:
        """`feature_types` is there where it is known what each of the features is."""
        table: dict[str, Any] = {INDEX: self.index, "columns": self.columns}
        if self.types is not None:
            table["feature_types"] = self.types
        return json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
