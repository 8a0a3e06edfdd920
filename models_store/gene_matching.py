"""How the genes of a query meet the gene panel of a reference, whatever they are called by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict

from models_store.feature_kinds import FeatureKind
from models_store.gene_columns import GeneColumn, QueryGenes, Rows, best_told
from models_store.gene_names import spelling
from models_store.gene_species import Species, differ
from models_store.species_rules import SpeciesRules

PanelColumn = Literal["ids", "symbols", "ensembl"]
How = Literal["exact", "plain", "made-unique", "spelling"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnTried(_Frozen):
    """What became of one column of the query's gene names."""

    query_column: str
    kind: str
    """`ensembl`, `symbols`, `mixed`, or what else the names look like."""
    reference_column: PanelColumn
    n_matched: int
    expected_expression_covered: float


class KindMatch(_Frozen):
    """How much of a panel's features of one kind a query has."""

    kind: FeatureKind
    n_matched: int
    n_panel: int
    expected_expression_covered: float
    """Of what is expected of this kind."""
    missing: tuple[str, ...] = ()
    """Of proteins, whose panels are small: those that the query lacks, at most 20."""
    unknown: tuple[str, ...] = ()
    """Of proteins: those of the query that the panel lacks, at most 20."""

    @property
    def judged(self) -> float:
        """By number or by expected expression, whichever is lower."""
        return min(self.n_matched / self.n_panel, self.expected_expression_covered)


class GeneMatch(_Frozen):
    """How the features of a query meet the panel of a reference.

    Of a panel of several kinds, figures are those of one: see `models_store.panel_matching`.
    """

    query_column: str
    reference_column: PanelColumn
    positions: tuple[int, ...]
    """For each feature of the query its position in the panel, -1 where the panel lacks it.
    Features that meet the same one of the panel are to be summed."""
    n_matched: int
    """How many genes of the panel the query has."""
    n_panel: int
    expected_expression_covered: float
    """Share of the reference's expected expression that falls on matched genes."""
    matched_as: Mapping[str, int] = {}
    """How many genes of the query met by their name as it stands (`exact`), without prefix, version
    or spaces (`plain`), as a repeat of another (`made-unique`), or spelt differently."""
    query_species: tuple[str, ...] = ()
    reference_species: tuple[str, ...] = ()
    species_differ: bool = False
    columns_tried: tuple[ColumnTried, ...] = ()
    kind: FeatureKind = "gene"
    """Whose figures these are."""
    kinds: tuple[KindMatch, ...] = ()
    """Of each kind that the panel has; empty where it says nothing of kinds: all are genes."""

    @property
    def by_kind(self) -> tuple[KindMatch, ...]:
        """As `kinds`, with the one of a panel of genes alone."""
        return self.kinds or (
            KindMatch(
                kind=self.kind,
                n_matched=self.n_matched,
                n_panel=self.n_panel,
                expected_expression_covered=self.expected_expression_covered,
            ),
        )

    @property
    def width(self) -> int:
        """Features of the panel, of all kinds."""
        return sum(each.n_panel for each in self.by_kind)

    @property
    def n_absent(self) -> int:
        """Features of the panel, of all kinds, that the query lacks."""
        return sum(each.n_panel - each.n_matched for each in self.by_kind)


class PanelNames:
    """The columns of a gene panel, indexed; made once a reference version."""

    def __init__(self, columns: Mapping[PanelColumn, Sequence[str]]) -> None:
        known: dict[PanelColumn, GeneColumn] = {}
        for kind, names in columns.items():
            # Symbols are often the ids themselves, which need no second look.
            if not any(names == each.names for each in known.values()):
                known[kind] = GeneColumn(names)
        self.columns = known

    @property
    def size(self) -> int:
        """How many genes."""
        return len(self.columns["ids"])

    @cached_property
    def species(self) -> tuple[Species, ...]:
        """By the best sign that any column gives."""
        return best_told(self.columns.values())


def match_genes(
    query: QueryGenes,
    panel: PanelNames,
    expected: Sequence[float],
    declared: Sequence[Species] = (),
) -> GeneMatch:
    """Match in the column of the query that covers most of the reference's expected expression.

    A gene is looked for by its name as it stands, then without what the file added to it, then as a
    repeat of another gene, then in another spelling. In each column, what the best identifier kind
    of the panel leaves open is looked for in the others, because columns mix them.

    Args:
        query: its columns of names, the var index first: it wins ties.
        panel: of the reference.
        expected: share of the reference's expression, for each gene of the panel.
        declared: the reference's species, where its names do not tell.
    """
    theirs = panel.species or tuple(declared)
    found = [
        _Matched.best(name, column, panel, expected, SpeciesRules(query, column, theirs))
        for name, column in query.columns.items()
    ]
    best = max(found, key=lambda each: each.worth)
    return GeneMatch(
        query_column=best.name,
        reference_column=best.kind,
        positions=tuple(best.positions),
        n_matched=best.n_matched,
        n_panel=panel.size,
        expected_expression_covered=best.covered,
        matched_as=dict(Counter(way for way in best.ways if way is not None)),
        query_species=_named(query.species),
        reference_species=_named(theirs),
        species_differ=differ(query.species, theirs),
        columns_tried=tuple(each.told() for each in found),
    )


def _named(species: Sequence[Species]) -> tuple[str, ...]:
    return tuple(each.name for each in species)


@dataclass
class _Matched:
    """One column of the query against the panel."""

    name: str
    column: GeneColumn
    kind: PanelColumn
    positions: list[int]
    ways: list[How | None]
    """How each row met its position."""
    covered: float
    n_matched: int

    @classmethod
    def best(
        cls,
        name: str,
        column: GeneColumn,
        panel: PanelNames,
        expected: Sequence[float],
        rules: SpeciesRules,
    ) -> _Matched:
        tried: list[_Matched] = []
        for kind, theirs in panel.columns.items():
            positions, ways = _meet(column, theirs, rules)
            tried.append(cls(name, column, kind, positions, ways, *_worth(positions, expected)))
        first = max(tried, key=lambda each: each.worth)
        for other in tried:
            if other is not first:
                first._fill(other)
        first.covered, first.n_matched = _worth(first.positions, expected)
        return first

    @property
    def worth(self) -> tuple[float, int]:
        return round(self.covered, 9), self.n_matched

    def told(self) -> ColumnTried:
        return ColumnTried(
            query_column=self.name,
            kind=self.column.kind,
            reference_column=self.kind,
            n_matched=self.n_matched,
            expected_expression_covered=self.covered,
        )

    def _fill(self, other: _Matched) -> None:
        if not other.n_matched:
            return
        for row, position in enumerate(other.positions):
            if position >= 0 and self.positions[row] < 0:
                self.positions[row], self.ways[row] = position, other.ways[row]


def _worth(positions: Sequence[int], expected: Sequence[float]) -> tuple[float, int]:
    matched = sorted(set(positions) - {-1})
    return min(1.0, sum(expected[position] for position in matched)), len(matched)


def _meet(
    query: GeneColumn, panel: GeneColumn, rules: SpeciesRules
) -> tuple[list[int], list[How | None]]:
    positions, ways = [-1] * len(query), list[How | None]([None]) * len(query)
    taken: set[int] = set()
    for way, pairs in _steps(query, panel, rules):
        # Another spelling is a weak sign, of no worth where the gene itself is there.
        closed = set(taken) if way == "spelling" else ()
        for rows, position in pairs:
            if position in closed:
                continue
            for row in rows:
                if positions[row] < 0 and (way == "exact" or row not in rules.foreign):
                    positions[row], ways[row] = position, way
                    taken.add(position)
    return positions, ways


def _steps(
    query: GeneColumn, panel: GeneColumn, rules: SpeciesRules
) -> Iterator[tuple[How, Iterator[tuple[Sequence[int], int]]]]:
    yield "exact", _pairs(query.exact, panel.exact)
    if not (query.is_plain and panel.is_plain):
        yield "plain", _pairs(query.plain, panel.plain)
    if query.stems:
        yield "made-unique", _pairs(query.stems, panel.plain)
    yield "spelling", _respelt(query, panel, rules)


def _pairs(query: Rows, panel: Rows) -> Iterator[tuple[Sequence[int], int]]:
    """Rows of the query beside the first gene of the panel that has their name."""
    for name, at in panel.items():
        if (rows := query.get(name)) is not None:
            yield rows, at[0]


def _respelt(
    query: GeneColumn, panel: GeneColumn, rules: SpeciesRules
) -> Iterator[tuple[Sequence[int], int]]:
    for name, at in panel.plain.items():
        spelt = spelling(name)
        if (rows := query.spellings.get(spelt)) is None or spelt in panel.ambiguous_spellings:
            continue
        allowed = [row for row in rows if rules.may_respell(query.name_at(row), name)]
        if allowed:
            yield allowed, at[0]
