"""How the features of a query meet a reference's panel, each kind among its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from models_store.feature_kinds import FeatureKind
from models_store.gene_columns import QueryGenes
from models_store.gene_matching import GeneMatch, KindMatch, match_genes
from models_store.gene_panel import Genes
from models_store.gene_species import Species

NEVER_JUDGED: FeatureKind = "protein"
"""A query without any protein of the panel is mapped all the same: what is absent is missing."""


def match_panel(
    query: QueryGenes, genes: Genes, expected: Sequence[float], declared: Sequence[Species] = ()
) -> GeneMatch:
    """Match genes as `match_genes` does, regions and proteins by name, and join the positions.

    Names of regions and proteins are compared without the spaces around them; a protein's case of
    letters does not matter where no other protein is called so. Of a query that says nothing of
    kinds every feature may be a region: no gene is called as one.

    Figures of the match are those of the kind that decides whether a query is mapped: genes, or
    regions, whichever it covers better of those that the panel has.

    Args:
        query: its features.
        genes: the panel.
        expected: share of the reference's expression, for each feature of the panel; each kind's
            are taken relative to their sum.
        declared: the reference's species, where names of genes do not tell.
    """
    if genes.modalities is None:
        return match_genes(query, genes.panel, expected, declared)
    runs = {kind: run for kind, run in genes.slices().items() if run.stop > run.start}
    found = {kind: _match_kind(kind, query, genes, expected, declared) for kind in runs}
    positions = [-1] * query.size
    for kind, each in found.items():
        for row, position in enumerate(each.positions):
            if position >= 0 and positions[row] < 0:
                positions[row] = position + runs[kind].start
    told = {kind: _told(kind, each) for kind, each in found.items()}
    judged = _judged(told)
    return found[judged].model_copy(
        update={
            "positions": tuple(positions),
            "kind": judged,
            "kinds": tuple(told.values()),
            "species_differ": any(each.species_differ for each in found.values()),
        }
    )


def _match_kind(
    kind: FeatureKind,
    query: QueryGenes,
    genes: Genes,
    expected: Sequence[float],
    declared: Sequence[Species],
) -> GeneMatch:
    shares = _relative(expected[genes.slices()[kind]])
    if kind == "gene":
        return match_genes(query, genes.panel, shares, declared)
    return _match_names(kind, query, genes.ids[genes.slices()[kind]], shares)


def _relative(shares: Sequence[float]) -> Sequence[float]:
    whole = sum(shares)
    return [share / whole for share in shares] if whole > 0 else [1 / len(shares)] * len(shares)


def _told(kind: FeatureKind, match: GeneMatch) -> KindMatch:
    return KindMatch(
        kind=kind,
        n_matched=match.n_matched,
        n_panel=match.n_panel,
        expected_expression_covered=match.expected_expression_covered,
    )


def _judged(told: Mapping[FeatureKind, KindMatch]) -> FeatureKind:
    kinds = [kind for kind in told if kind != NEVER_JUDGED] or [NEVER_JUDGED]
    return max(kinds, key=lambda kind: told[kind].judged)


def _match_names(
    kind: FeatureKind, query: QueryGenes, names: Sequence[str], shares: Sequence[float]
) -> GeneMatch:
    rows = query.regions() if kind == "region" else query.rows_of(kind)
    panel = _Names(names, folded=kind == "protein")
    tried = {
        column: panel.met([(row, genes.names[row]) for row in rows])
        for column, genes in query.columns.items()
    }
    best = max(tried, key=lambda column: len(set(tried[column].values())))
    met = set(tried[best].values())
    return GeneMatch(
        query_column=best,
        reference_column="ids",
        positions=tuple(tried[best].get(row, -1) for row in range(query.size)),
        n_matched=len(met),
        n_panel=len(names),
        expected_expression_covered=min(1.0, sum(shares[position] for position in sorted(met))),
        kind=kind,
    )


@dataclass
class _Names:
    """Names of a panel's regions or proteins, indexed."""

    names: Sequence[str]
    folded: bool
    """Whether the case of letters matters only where names differ in nothing else."""

    def met(self, rows: Sequence[tuple[int, str]]) -> dict[int, int]:
        """The position of each row that meets one."""
        exact: dict[str, int] = {
            name.strip(): at for at, name in reversed(list(enumerate(self.names)))
        }
        found = {row: exact[name.strip()] for row, name in rows if name.strip() in exact}
        if self.folded:
            found |= dict(self._respelt(rows, found))
        return found

    def _respelt(
        self, rows: Sequence[tuple[int, str]], found: Mapping[int, int]
    ) -> Iterator[tuple[int, int]]:
        taken = set(found.values())
        theirs, ours = _by_fold(enumerate(self.names)), _by_fold(rows)
        for fold, at in theirs.items():
            if len(at) == 1 and len(ours.get(fold, ())) == 1:
                (position,), (same,) = at.values(), ours[fold].values()
                if position[0] not in taken:
                    yield from ((row, position[0]) for row in same)


def _by_fold(named: Iterator[tuple[int, str]] | Sequence[tuple[int, str]]) -> _Folded:
    """Places by name in small letters, and there by the name as it is spelt."""
    found: _Folded = defaultdict(lambda: defaultdict(list))
    for at, name in named:
        if name.strip():
            found[name.strip().casefold()][name.strip()].append(at)
    return found


_Folded = dict[str, dict[str, list[int]]]
