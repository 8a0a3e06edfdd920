"""When a gene of one species may stand for one of another that is called alike."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from models_store.gene_columns import GeneColumn, QueryGenes
from models_store.gene_names import GENOME_SPECIES
from models_store.gene_species import Species, convention_of, differ, may_be_same, surely_same


class SpeciesRules:
    """What keeps genes of two species apart that have one name."""

    def __init__(self, query: QueryGenes, column: GeneColumn, reference: Sequence[Species]) -> None:
        self._column, self._reference = column, reference
        self._apart = differ(query.species, reference)
        self._sure = surely_same(query.species, reference)

    @cached_property
    def foreign(self) -> frozenset[int]:
        """Rows whose prefix is that of a genome of another species."""
        if not self._reference:
            return frozenset()
        genomes = self._column.genomes
        foreign = {genome for genome in set(genomes.values()) if self._is_foreign(genome)}
        return frozenset(row for row, genome in genomes.items() if genome in foreign)

    def _is_foreign(self, genome: str) -> bool:
        name = GENOME_SPECIES.get(genome)
        if name is None:
            return False
        one = Species(name, "genome")
        return not any(may_be_same(one, other) for other in self._reference)

    def may_respell(self, name: str, other: str) -> bool:
        """Whether two names that differ in case may be one: `Actb` is no spelling of `ACTB`, unless
        it is known by more than their case that both are of one species."""
        if self._sure:
            return True
        if self._apart:
            return False
        return {convention_of(name), convention_of(other)} != {"UPPER", "Title"}
