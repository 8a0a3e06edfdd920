"""The ordered genes of a reference, under every kind of identifier that is known of them."""

from __future__ import annotations

from functools import cached_property
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models_store.gene_matching import PanelColumn, PanelNames


class Genes(BaseModel):
    """The ordered gene panel, with both identifier kinds where they are known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[str, ...] = Field(min_length=1)
    """The var index of the reference's counts: the name by which weights are ordered."""
    symbols: tuple[str, ...] | None = None
    ensembl: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("the gene panel lists a gene twice")
        for column in (self.symbols, self.ensembl):
            if column is not None and len(column) != len(self.ids):
                raise ValueError("a gene column's length differs from the panel's")
        return self

    def columns(self) -> dict[PanelColumn, tuple[str, ...]]:
        """The identifier kinds that the panel offers; `ids` always, and first."""
        known: dict[PanelColumn, tuple[str, ...]] = {"ids": self.ids}
        if self.symbols is not None:
            known["symbols"] = self.symbols
        if self.ensembl is not None:
            known["ensembl"] = self.ensembl
        return known

    @cached_property
    def panel(self) -> PanelNames:
        """The columns, indexed for matching."""
        return PanelNames(self.columns())
