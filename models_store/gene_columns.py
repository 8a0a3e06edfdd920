"""Columns of gene names, indexed by every form in which a name may meet another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from models_store.feature_kinds import KINDS, FeatureKind, kinds_of
from models_store.gene_names import (
    GENOME_PREFIX,
    MADE_UNIQUE,
    NO_NAME,
    SHARED_PREFIX,
    kind_of_name,
    plain_names,
    spelling,
    without_genome,
)
from models_store.gene_species import SIGNS, Species, species_of

Rows = Mapping[str, Sequence[int]]

SHARED_BY = 0.4
"""A prefix that so many names have is a genome's, known or not; two genomes share a file."""
MOSTLY, BARELY = 0.5, 0.05
SAMPLED = 5000


class GeneColumn:
    """One column of gene names. What is worked out of it is worked out once."""

    def __init__(self, names: Sequence[str], left_out: frozenset[int] = frozenset()) -> None:
        """`left_out`: rows that are no genes, or are to be seen as none."""
        self.names = names
        self._left_out = left_out

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def exact(self) -> Rows:
        """The rows of each name as it stands."""
        return _indexed((row, name) for row, name in self._named())

    @cached_property
    def plain(self) -> Rows:
        """The rows of each plain name, as `models_store.gene_names.plain_names` has it."""
        return _indexed((row, name) for row, names in self._plain for name in names)

    @cached_property
    def is_plain(self) -> bool:
        """Whether every name is as plain as it can be."""
        return all(names == (self.names[row],) for row, names in self._plain)

    @cached_property
    def stems(self) -> Rows:
        """For each plain name the rows of those that repeat it, made unique by a number."""
        found = defaultdict(list)
        for row, names in self._plain:
            made = MADE_UNIQUE.fullmatch(names[0])
            if made and (stem := plain_names(made[1])[0]) in self.plain:
                found[stem].append(row)
        return dict(found)

    @cached_property
    def spellings(self) -> Rows:
        """The rows of each plain name, with what is only spelt differently under one."""
        return _indexed((row, spelling(name)) for name, rows in self.plain.items() for row in rows)

    @cached_property
    def ambiguous_spellings(self) -> frozenset[str]:
        """Spellings that more than one plain name has."""
        seen = Counter(spelling(name) for name in self.plain)
        return frozenset(name for name, number in seen.items() if number > 1)

    @cached_property
    def genomes(self) -> Mapping[int, str]:
        """The genome whose prefix a row's name has, in small letters."""
        if not self._prefixed:
            return {}
        found = (
            (row, without_genome(name.strip(), self._others)[1]) for row, name in self._named()
        )
        return {row: genome for row, genome in found if genome is not None}

    @cached_property
    def species(self) -> tuple[Species, ...]:
        """See `models_store.gene_species.species_of`."""
        seen = Counter(self.genomes.values())
        named = [genome for genome, n in seen.most_common() if n > BARELY * len(self.names)]
        return species_of(self._sample, named)

    @cached_property
    def _sample(self) -> list[str]:
        """Plain names from everywhere in the column, enough to tell what they are like."""
        names = list(self.plain)
        return names[:: 1 + len(names) // SAMPLED]

    @cached_property
    def kind(self) -> str:
        """`ensembl`, `symbols`, `mixed` of both, or what else most of the names are."""
        found = Counter(kind_of_name(name) for name in self._sample)
        n = found.total()
        if not n:
            return "empty"
        ensembl, symbols = found["ensembl"], found["symbols"]
        if ensembl + symbols <= MOSTLY * n:
            return found.most_common(1)[0][0]
        if ensembl <= BARELY * n:
            return "symbols"
        return "ensembl" if symbols <= BARELY * n else "mixed"

    @property
    def names_genes(self) -> bool:
        """Whether the names look like those of genes at all."""
        return self.kind in ("ensembl", "symbols", "mixed")

    def name_at(self, row: int) -> str:
        """The plain name of a row; empty where it has none."""
        names = plain_names(self.names[row], self._others)
        return names[0]

    def _named(self) -> Iterator[tuple[int, str]]:
        for row, name in enumerate(self.names):
            if name.strip() != NO_NAME and row not in self._left_out:
                yield row, name

    @cached_property
    def _plain(self) -> list[tuple[int, tuple[str, ...]]]:
        return [(row, plain_names(name, self._others)) for row, name in self._named()]

    @cached_property
    def _others(self) -> frozenset[str]:
        """Prefixes that so many names share that they must be those of genomes."""
        tokens = Counter(
            found[1]
            for _, name in self._named()
            if "_" in name and (found := SHARED_PREFIX.match(name.strip()))
        )
        return frozenset(
            token for token, n in tokens.items() if n > max(1, SHARED_BY * len(self.names))
        )

    @cached_property
    def _prefixed(self) -> bool:
        if self._others:
            return True
        return any(GENOME_PREFIX.match(name.strip()) for _, name in self._named())


def _indexed(pairs: Iterator[tuple[int, str]]) -> Rows:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in pairs:
        found[name].append(row)
    return dict(found)


@dataclass(frozen=True)
class QueryGenes:
    """The columns of a query that may name its genes, the var index first, all of one length."""

    columns: Mapping[str, GeneColumn]
    left_out: frozenset[int] = field(default=frozenset())
    """Rows that are no genes: antibodies, peaks, guides."""
    kinds: tuple[FeatureKind | None, ...] | None = None
    """What each row is; None where the file says nothing, so that all are taken for genes."""
    are_told: bool = True
    """Whether the file says of any row that it is a gene, or what it is instead."""

    @classmethod
    def of(
        cls, columns: Mapping[str, Sequence[str]], feature_types: Sequence[str] | None = None
    ) -> Self:
        """Columns of names, and what each row is where the file says so.

        Raises:
            ValueError: the query offers no column.
        """
        if not columns:
            raise ValueError("a query offers at least one column of gene names")
        kinds = None if feature_types is None else tuple(kinds_of(feature_types))
        left_out = frozenset(row for row, kind in enumerate(kinds or ()) if kind != "gene")
        genes = {name: GeneColumn(each, left_out) for name, each in columns.items()}
        told = zip(feature_types or (), kinds or (), strict=True)
        return cls(
            genes, left_out, kinds, any(text.strip() and kind != "protein" for text, kind in told)
        )

    @classmethod
    def stored(cls, table: Mapping[str, Any]) -> Self:
        """Of the gene table of a canonical query (`genes.json`)."""
        columns = {"index": table["index"], **table.get("columns", {})}
        return cls.of(columns, table.get("feature_types"))

    def alone(self, name: str) -> QueryGenes:
        """One of the columns, without the others."""
        return replace(self, columns={name: self.columns[name]})

    @property
    def size(self) -> int:
        """How many features, of whatever kind."""
        return len(next(iter(self.columns.values())))

    def rows_of(self, kind: FeatureKind) -> Sequence[int]:
        """The features of a kind; of a file that says nothing of kinds, all are genes."""
        if self.kinds is None:
            return range(self.size) if kind == "gene" else ()
        return [row for row, each in enumerate(self.kinds) if each == kind]

    def regions(self) -> Sequence[int]:
        """The features that are regions; those that a file says nothing of may all be some."""
        return self.rows_of("region" if self.are_told else "gene")

    def count_kinds(self) -> dict[FeatureKind, int]:
        """How many features there are of each kind that there is any of."""
        found = {kind: len(self.rows_of(kind)) for kind in KINDS}
        return {kind: number for kind, number in found.items() if number}

    @cached_property
    def species(self) -> tuple[Species, ...]:
        """By the best sign that any column gives."""
        return best_told(self.columns.values())


def best_told(columns: Iterable[GeneColumn]) -> tuple[Species, ...]:
    """The species by the best sign that any column gives."""
    told = [column.species for column in columns if column.species]
    return min(told, key=lambda found: SIGNS.index(found[0].told_by), default=())
