"""A modality of a MuData file that is joined to another: its cells, features and counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.problems import Problem
from models_store.feature_kinds import TYPES, FeatureKind, kind_of_word, kinds_of
from worker.intake.attached import Attached
from worker.intake.feature_types import feature_types
from worker.intake.findings import Findings, located
from worker.intake.h5ad import H5ad
from worker.intake.matrices import Matrix, check_size
from worker.intake.rows import RowBlock
from worker.intake.source import Source
from worker.intake.tables import Table
from worker.intake.values import Array, Survey


@dataclass(frozen=True)
class Named:
    """A modality by its name, with what is known of it before it is opened."""

    name: str
    kind: FeatureKind | None = None
    """Of its features; None: what its name stands for."""
    layer: str | None = None
    """The matrix of its counts; None: looked for where they usually are."""

    @property
    def told(self) -> FeatureKind | None:
        return self.kind or kind_of_word(self.name)


@dataclass(frozen=True)
class Modality:
    """Regions or proteins with a table of cells of their own."""

    name: str
    obs: Table
    features: Attached

    @property
    def adds_cells(self) -> bool:
        """Proteins alone are no cell: often their barcodes were never filtered."""
        return "region" in kinds_of(self.features.types)

    @classmethod
    def opened(cls, source: Source, root: str, named: Named) -> Self | None:
        """The modality with the first of its matrices that holds counts.

        None where nothing says that it holds regions or proteins.

        Raises:
            Problem: it holds no counts, it is damaged, or its cells cannot be told apart.
        """
        file = H5ad(source, f"{root}/{named.name}")
        faults: list[Problem] = []
        obs = None
        for each in [named.layer] if named.layer else file.candidates():
            try:
                matrix = file.locate(each)
                types = _types(named, file.genes(matrix, Findings()))
                if types is None:
                    return None
                obs = obs or _cells(file)
                return cls(named.name, obs, _features(file, matrix, types, obs).proved())
            except Problem as problem:
                faults.append(problem)
        if not faults and named.told in (None, "gene"):
            return None
        raise faults[0] if faults else _nothing(file)


def _nothing(file: H5ad) -> Problem:
    return located("unknown-layer", f"{file.root}/X", "It has no matrix where counts usually are.")


def _cells(file: H5ad) -> Table:
    obs = file.cells(Findings())
    if pc.count_distinct(obs.index).as_py() != len(obs):
        raise located("features-repeat", obs.path, f"{obs.path} names cells more than once.")
    return obs


def _types(named: Named, var: Table) -> list[str] | None:
    told, kind = feature_types(var), named.told
    if named.kind is None and told is not None and set(kinds_of(told)) <= {"region", "protein"}:
        return told
    return None if kind in (None, "gene") else [TYPES[kind]] * len(var)


def _features(file: H5ad, matrix: Matrix, types: list[str], obs: Table) -> Attached:
    check_size(matrix, file.source.limits)
    var = file.genes(matrix, Findings())
    if matrix.shape != (len(obs), len(var)):
        raise located(
            "shape-mismatch",
            matrix.path,
            f"{matrix.path} is {matrix.shape[0]:,} x {matrix.shape[1]:,}, but there are names of "
            f"{len(obs):,} cells and {len(var):,} features.",
        )

    def read(survey: Survey) -> Iterator[RowBlock]:
        return file.blocks(matrix, survey)

    return Attached(file.root.strip("/"), matrix.path, types, var.index.to_pylist(), len(obs), read)


@dataclass(frozen=True)
class Union:
    """The cells of several modalities: those of the first, then those that only regions have."""

    own: pa.Array
    added: list[tuple[Modality, Array]]
    """Modalities with rows of theirs whose cells none before them has."""
    rows: list[Array]
    """For each modality: where each of all cells is in it, -1 for none."""

    @classmethod
    def of(cls, own: pa.Array, others: Sequence[Modality]) -> Self:
        known = {name: row for row, name in enumerate(own.to_pylist())}
        added, rows = [], []
        for each in others:
            names = each.obs.index.to_pylist() if each.adds_cells else []
            new = [row for row, name in enumerate(names) if name not in known]
            known |= {names[row]: len(known) + at for at, row in enumerate(new)}
            if new:
                added.append((each, np.array(new, dtype=np.int64)))
        for each in others:
            names = each.obs.index.to_pylist()
            place = np.array([known.get(name, -1) for name in names], dtype=np.int64)
            there = np.flatnonzero(place >= 0)
            found = np.full(len(known), -1, dtype=np.int64)
            found[place[there]] = there
            rows.append(found)
        return cls(own, added, rows)

    @property
    def n_own(self) -> int:
        return len(self.own)

    @property
    def n_added(self) -> int:
        return sum(len(rows) for _, rows in self.added)
