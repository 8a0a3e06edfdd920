"""The ordered features of a reference, under every kind of identifier that is known of them."""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models_store.gene_matching import PanelColumn, PanelNames

FeatureKind = Literal["gene", "region", "protein"]
"""What a column of counts counts: `region`, a peak of chromatin that is open."""
MODALITIES: tuple[FeatureKind, ...] = get_args(FeatureKind)
"""In the order in which they stand in every panel."""


class Modality(BaseModel):
    """A run of features of one kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FeatureKind
    count: int = Field(gt=0)


class Genes(BaseModel):
    """The ordered panel of genes, then regions, then proteins.

    With both identifier kinds of genes where they are known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[str, ...] = Field(min_length=1)
    """The var index of the reference's counts: the name by which weights are ordered."""
    symbols: tuple[str, ...] | None = None
    ensembl: tuple[str, ...] | None = None
    modalities: tuple[Modality, ...] | None = None
    """The runs of features by kind. None: all are genes."""

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        for run in self.slices().values():
            if len(set(self.ids[run])) != run.stop - run.start:
                raise ValueError("the gene panel lists a gene twice")
        for column in (self.symbols, self.ensembl):
            if column is not None and len(column) != len(self.ids):
                raise ValueError("a gene column's length differs from the panel's")
        return self

    @model_validator(mode="after")
    def _runs_cover(self) -> Self:
        if self.modalities is None:
            return self
        if sum(run.count for run in self.modalities) != len(self.ids):
            raise ValueError("the modalities of the panel do not add up to its features")
        kinds = [run.kind for run in self.modalities]
        if kinds != [kind for kind in MODALITIES if kind in kinds]:
            raise ValueError("the modalities of the panel are repeated or out of order")
        return self

    def counts(self) -> dict[FeatureKind, int]:
        """How many features there are of each kind, in panel order."""
        if self.modalities is None:
            return {"gene": len(self.ids), "region": 0, "protein": 0}
        known = {run.kind: run.count for run in self.modalities}
        return {kind: known.get(kind, 0) for kind in MODALITIES}

    def slices(self) -> dict[FeatureKind, slice]:
        """Where the features of each kind stand in the panel."""
        counts = self.counts()
        stops = accumulate(counts.values())
        return {
            kind: slice(stop - n, stop)
            for (kind, n), stop in zip(counts.items(), stops, strict=True)
        }

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
