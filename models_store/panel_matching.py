"""How the features of a query meet a reference's panel, each kind among its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from models_store.feature_kinds import FeatureKind
from models_store.feature_spelling import Key, interval, protein_key
from models_store.gene_columns import QueryGenes
from models_store.gene_matching import GeneMatch, KindMatch, match_genes
from models_store.gene_panel import Genes
from models_store.gene_species import Species

NEVER_JUDGED: FeatureKind = "protein"
"""A query without any protein of the panel is mapped all the same: what is absent is missing."""
NAMES_TOLD = 20


def match_panel(
    query: QueryGenes, genes: Genes, expected: Sequence[float], declared: Sequence[Species] = ()
) -> GeneMatch:
    """Match genes as `match_genes` does, regions and proteins by name, and join the positions.

    Names of regions and proteins are compared without the spaces around them, and then, where one
    alone on each side is called so, regions by the interval that they name, proteins in any case of
    letters and without what antibodies have around their names (`feature_spelling`). Of a query
    that says nothing of kinds every feature may be a region: no gene is called as one.

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
    told = {kind: _told(kind, each, query, genes) for kind, each in found.items()}
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


def _told(kind: FeatureKind, match: GeneMatch, query: QueryGenes, genes: Genes) -> KindMatch:
    missing, unknown = _names_apart(match, query, genes) if kind == "protein" else ((), ())
    return KindMatch(
        kind=kind,
        n_matched=match.n_matched,
        n_panel=match.n_panel,
        expected_expression_covered=match.expected_expression_covered,
        missing=missing,
        unknown=unknown,
    )


def _names_apart(
    match: GeneMatch, query: QueryGenes, genes: Genes
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Proteins that the panel alone has, and those that the query alone has."""
    met, theirs = set(match.positions), query.columns[match.query_column].names
    panel = genes.ids[genes.slices()["protein"]]
    missing = tuple(name for at, name in enumerate(panel) if at not in met)
    unknown = tuple(theirs[row] for row in query.rows_of("protein") if match.positions[row] < 0)
    return missing[:NAMES_TOLD], unknown[:NAMES_TOLD]


def _judged(told: Mapping[FeatureKind, KindMatch]) -> FeatureKind:
    kinds = [kind for kind in told if kind != NEVER_JUDGED] or [NEVER_JUDGED]
    return max(kinds, key=lambda kind: told[kind].judged)


def _match_names(
    kind: FeatureKind, query: QueryGenes, names: Sequence[str], shares: Sequence[float]
) -> GeneMatch:
    tried = {column: _met(kind, query, column, names) for column in query.columns}
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


def _met(kind: FeatureKind, query: QueryGenes, column: str, names: Sequence[str]) -> dict[int, int]:
    """The position in the panel of each feature of the query that meets one, by one column."""
    rows = query.regions() if kind == "region" else query.rows_of(kind)
    theirs = query.columns[column].names
    named = [(row, theirs[row]) for row in rows]
    exact: dict[str, int] = {name.strip(): at for at, name in reversed(list(enumerate(names)))}
    found = {row: exact[name.strip()] for row, name in named if name.strip() in exact}
    for key in _keys(kind, theirs, rows):
        # Most files are spelt as the panel is: then all is found by now.
        if len(set(found.values())) < len(names) and len(found) < len(named):
            found |= dict(_respelt(names, named, found, key))
    return found


def _keys(kind: FeatureKind, theirs: Sequence[str], rows: Sequence[int]) -> tuple[Key, ...]:
    """By what names are compared that are not spelt alike, the surest first."""
    if kind == "region":
        return (interval,)
    own = set(rows)
    others = {name.strip() for row, name in enumerate(theirs) if row not in own}
    return (_folded, protein_key(others))


def _folded(name: str) -> str:
    return name.strip().casefold()


def _respelt(
    names: Sequence[str],
    rows: Sequence[tuple[int, str]],
    found: Mapping[int, int],
    key: Key,
) -> Iterator[tuple[int, int]]:
    """Features that meet by a key which on each side one name alone has."""
    taken = set(found.values())
    theirs, ours = _by_key(enumerate(names), key), _by_key(rows, key)
    for common, at in theirs.items():
        if len(at) == 1 and len(ours.get(common, ())) == 1:
            (position,), (same,) = at.values(), ours[common].values()
            if position[0] not in taken:
                yield from ((row, position[0]) for row in same if row not in found)


def _by_key(named: Iterable[tuple[int, str]], key: Key) -> _Keyed:
    """Places by the key of a name, and there by the name as it is spelt."""
    found: _Keyed = defaultdict(lambda: defaultdict(list))
    for at, name in named:
        if common := key(name):
            found[common][name.strip()].append(at)
    return found


_Keyed = dict[str, dict[str, list[int]]]
