"""The modalities of a MuData file as one query: one matrix, the features of others beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.problems import Problem
from models_store.feature_kinds import TYPES, FeatureKind, kind_of_word, kinds_of
from worker.intake.attached import Attached, tell_left_out
from worker.intake.choice import Choice
from worker.intake.columns import Column
from worker.intake.feature_tables import TYPES as TYPES_COLUMN
from worker.intake.feature_types import feature_types
from worker.intake.findings import Findings, located
from worker.intake.h5ad import H5ad
from worker.intake.joined_tables import join_tables, rows_of
from worker.intake.matrices import Matrix
from worker.intake.modalities import Modality, Named, Union
from worker.intake.rows import RowBlock
from worker.intake.source import Source
from worker.intake.tables import Table, read_table
from worker.intake.values import Array, Survey

MODALITIES = "/mod"
USUAL = ("rna", "gex")
"""What the modality of gene counts is called, in any case of letters."""


def open_modality(source: Source, choice: Choice) -> H5mu:
    """The modality that was asked for, alone; or that of gene counts with those beside it.

    Where there is none of genes, that of regions is the first, or the only one there is.

    Raises:
        Problem: there is no such modality, or several and none is of a kind that is known.
    """
    found = source.keys(MODALITIES)
    if not found:
        raise located(
            "missing-array",
            MODALITIES,
            "The file has no modality.",
            'Upload the modality of gene counts: mdata["rna"].write_h5ad("query.h5ad").',
        )
    listed = ", ".join(f"`{name}`" for name in found[:20])
    main = choice.modality or _main(found)
    if main is None:
        raise located(
            "several-modalities",
            MODALITIES,
            f"The file holds {len(found)} modalities: {listed}. None is called rna, gex or atac.",
            f"Send it again with modality={found[0]}, or another of them.",
        )
    if main not in found:
        raise located(
            "unknown-modality",
            MODALITIES,
            f"The file has no modality {main!r}; it has {listed}.",
            "Send it again with one of these as modality=...",
        )
    others = [] if choice.modality else [Named(name) for name in found if name != main]
    return H5mu(source, Named(main), others, choice)


def _main(found: Sequence[str]) -> str | None:
    usual = [name for wanted in USUAL for name in found if name.casefold() == wanted]
    regions = [name for name in found if kind_of_word(name) == "region"]
    alone = found[:1] if len(found) == 1 else []
    return next(iter([*usual, *regions, *alone]), None)


class H5mu(H5ad):
    """See `QueryFile`. Cells are those of the first modality, then those that only regions have."""

    format = "h5mu"

    def __init__(
        self, source: Source, main: Named, others: Sequence[Named], choice: Choice
    ) -> None:
        super().__init__(source, f"{MODALITIES}/{main.name}", choice)
        self.main, self.others = main, others

    @cached_property
    def _beside(self) -> _Beside:
        """What is joined. Nothing, where the cells of the first modality cannot be told apart."""
        found = _Beside()
        if not self.others:
            return found
        try:
            found.own = super().cells(Findings())
        except Problem:
            return found  # told where the cells are read
        known = self._own_features()
        for each in self.others:
            try:
                modality = Modality.opened(self.source, MODALITIES, each)
                if modality is None and each.told is None:
                    raise _unknown(each)
                if modality is not None:
                    _require_distinct(found.own)
                    _require_new(modality.features, known)
                    found.modalities.append(modality)
            except Problem as problem:
                found.faults.append((each.name, problem))
        if found.modalities:
            found.join()
        return found

    def facts(self) -> dict[str, Any]:
        joined = [each.name for each in self._beside.modalities]
        return {"modality": self.main.name, **({"joined": joined} if joined else {})}

    def locate(self, layer: str | None) -> Matrix:
        matrix = super().locate(layer)
        return replace(matrix, shape=(matrix.shape[0] + self._n_added, matrix.shape[1]))

    @property
    def _n_added(self) -> int:
        union = self._beside.union
        return 0 if union is None else union.n_added

    def _stored(self, matrix: Matrix) -> Matrix:
        """The matrix without the cells that only other modalities have."""
        return replace(matrix, shape=(matrix.shape[0] - self._n_added, matrix.shape[1]))

    def peek(self, matrix: Matrix, number: int) -> Array:
        return super().peek(self._stored(matrix), number)

    def blocks(self, matrix: Matrix, survey: Survey) -> Iterator[RowBlock]:
        stored = self._stored(matrix)
        yield from super().blocks(stored, survey)
        if self._n_added:
            none = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
            yield RowBlock(stored.shape[0], np.zeros(self._n_added + 1, dtype=np.int64), *none)

    def examine(self, matrix: Matrix, survey: Survey, findings: Findings) -> None:
        super().examine(self._stored(matrix), survey, findings)

    def genes(self, matrix: Matrix | None, findings: Findings) -> Table:
        table = super().genes(matrix, findings)
        kind = self.main.told
        if kind in ("region", "protein") and (self.main.kind or feature_types(table) is None):
            types = pa.array([TYPES[kind]] * len(table), pa.string())
            others = [each for each in table.columns if each.name != TYPES_COLUMN]
            table = replace(table, columns=[*others, Column(TYPES_COLUMN, types)])
        return table

    def cells(self, findings: Findings) -> Table:
        own, union = super().cells(findings), self._beside.union
        if union is not None and union.added:
            more = [rows_of(each.obs, pa.array(rows)) for each, rows in union.added]
            whole = join_tables([own, *more], own.path, findings)
            own = replace(whole, index_name=own.index_name, unread=own.unread)
        if self.source.has("/obs"):
            try:
                self._join(own, read_table(self.source, "/obs", findings))
            except Problem as problem:
                findings.tell(
                    "column-left-out",
                    "/obs",
                    f"The table of all modalities' cells is left out: {problem.detail}",
                    "Nothing needs doing unless you need its columns.",
                )
        return own

    def _join(self, own: Table, whole: Table) -> None:
        """Add columns that the modality lacks, where each of its cells is in the table of all."""
        rows = pc.index_in(own.index, whole.index)
        distinct = pc.count_distinct(whole.index).as_py() == len(whole)
        if rows.null_count or not distinct:
            return
        known = {column.name for column in own.columns} | set(own.unread)
        for column in whole.columns:
            # mudata copies a modality's columns up, with its name before theirs.
            name = column.name.removeprefix(f"{self.main.name}:")
            if name not in known:
                known.add(name)
                own.columns.append(Column(name, pc.take(column.values, rows), column.nullable))

    def attached(self, cells: Table, findings: Findings) -> list[Attached]:
        beside = self._beside
        for name, problem in beside.faults:
            tell_left_out(problem, f"mod/{name}", "features", findings)
        own = cells if beside.own is None else beside.own
        tables = super().attached(own, findings)
        if beside.union is None:
            return tables
        first = np.arange(beside.union.n_own + beside.union.n_added)
        first[beside.union.n_own :] = -1
        return [
            *(replace(each, rows=first) for each in tables),
            *(
                replace(each.features, rows=rows)
                for each, rows in zip(beside.modalities, beside.union.rows, strict=True)
            ),
        ]

    def _has_proteins(self) -> bool:
        joined = (each.features.types for each in self._beside.modalities)
        return any("protein" in kinds_of(types) for types in joined) or super()._has_proteins()

    def dropped(self, matrix: Matrix) -> dict[str, list[str]]:
        taken = {self.main.name, *(each.name for each in self._beside.modalities)}
        others = [name for name in self.source.keys(MODALITIES) if name not in taken]
        return {**super().dropped(matrix), **({"modalities": others} if others else {})}


@dataclass
class _Beside:
    """What is joined to a modality, and what could not be."""

    own: Table | None = None
    modalities: list[Modality] = field(default_factory=list)
    faults: list[tuple[str, Problem]] = field(default_factory=list)
    union: Union | None = None

    def join(self) -> None:
        """The cells of all; a modality that has none of them is left out."""
        assert self.own is not None
        whole = Union.of(self.own.index, self.modalities)
        met = [bool((rows >= 0).any()) for rows in whole.rows]
        for each, has_cells in zip(self.modalities, met, strict=True):
            if not has_cells:
                self.faults.append((each.name, _strange(each)))
        self.modalities = list(compress(self.modalities, met))
        self.union = replace(whole, rows=list(compress(whole.rows, met)))


def _unknown(modality: Named) -> Problem:
    return located(
        "unknown-modality",
        f"{MODALITIES}/{modality.name}",
        "Neither its name nor `feature_types` of its var says what its features are.",
    )


def _strange(modality: Modality) -> Problem:
    path = modality.obs.path
    return located("shape-mismatch", path, f"{path} names none of the cells of the query.")


def _require_distinct(own: Table) -> None:
    if pc.count_distinct(own.index).as_py() != len(own):
        raise located("features-repeat", own.path, f"{own.path} names cells more than once.")


def _require_new(features: Attached, known: set[tuple[FeatureKind | None, str]]) -> None:
    """Nothing of it is known yet; by the next modality all is."""
    for each in zip(kinds_of(features.types), features.names, strict=True):
        if each in known:
            raise located(
                "features-repeat",
                features.path,
                f"`{features.name}` repeats {each[1]!r}, which the file has before.",
            )
    known.update(zip(kinds_of(features.types), features.names, strict=True))
