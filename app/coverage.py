"""How well the genes of a query cover the panel of a reference."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from app.problems import UnknownQuery
from app.storage import Storage, read_whole
from app.tables import Query, ReferenceVersion
from models_store.feature_kinds import FeatureKind
from models_store.gene_columns import QueryGenes
from models_store.gene_matching import GeneMatch
from models_store.manifest import Manifest

EXAMPLES = 5
MISSING_LISTED = 20
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Coverage:
    """Figures of `Manifest.match_genes`, with names that a person can look at."""

    n_matched: int
    n_panel: int
    share: float
    expected_expression_covered: float
    query_column: str
    reference_column: str
    query_examples: tuple[str, ...]
    reference_examples: tuple[str, ...]
    refuse_below: float
    warn_below: float
    matched_as: Mapping[str, int] = field(default_factory=dict)
    query_species: tuple[str, ...] = ()
    reference_species: tuple[str, ...] = ()
    species_differ: bool = False
    columns_tried: tuple[dict[str, Any], ...] = ()
    missing_genes: tuple[dict[str, Any], ...] = ()
    """The most informative genes of the panel that the query lacks, the first of them first."""
    kind: FeatureKind = "gene"
    """Whose figures these are; `missing_genes` are of it too."""
    kinds: tuple[dict[str, Any], ...] = ()
    """How much of each kind of the panel's features the query has."""

    @property
    def judged(self) -> float:
        """By number of genes or by expected expression, whichever is lower: half of the genes may
        be those that hardly any cell expresses, or all but those that matter."""
        return min(self.share, self.expected_expression_covered)

    @property
    def advice(self) -> Literal["good", "low", "refused"]:
        if self.n_matched == 0 or self.species_differ or self.judged < self.refuse_below:
            return "refused"
        return "low" if self.judged < self.warn_below else "good"

    @property
    def sentence(self) -> str:
        """The figures, for people."""
        return (
            f"{self.n_matched:,} of the {self.n_panel:,} {self.kind}s ({self.share:.1%}) and "
            f"{self.expected_expression_covered:.1%} of the expected expression"
        )

    @property
    def missing_names(self) -> str:
        """A few of the most informative missing genes, for people."""
        return ", ".join(gene["gene"] for gene in self.missing_genes[:EXAMPLES])


def cover(genes: QueryGenes, manifest: Manifest) -> Coverage:
    return coverage_of(manifest.match_genes(genes), genes, manifest)


def coverage_of(match: GeneMatch, genes: QueryGenes, manifest: Manifest) -> Coverage:
    panel = dict(manifest.genes.columns())[match.reference_column][_run(match, manifest)]
    names = genes.columns[match.query_column].names
    return Coverage(
        n_matched=match.n_matched,
        n_panel=match.n_panel,
        share=match.n_matched / match.n_panel,
        expected_expression_covered=match.expected_expression_covered,
        query_column=match.query_column,
        reference_column=match.reference_column,
        query_examples=tuple(names[row] for row in _like(match, genes)[:EXAMPLES]),
        reference_examples=tuple(panel[:EXAMPLES]),
        refuse_below=manifest.thresholds.refuse_below,
        warn_below=manifest.thresholds.warn_below,
        matched_as=match.matched_as,
        query_species=match.query_species,
        reference_species=match.reference_species,
        species_differ=match.species_differ,
        columns_tried=tuple(each.model_dump() for each in match.columns_tried),
        missing_genes=_missing(match, manifest),
        kind=match.kind,
        kinds=tuple(each.model_dump() for each in match.by_kind),
    )


def _run(match: GeneMatch, manifest: Manifest) -> slice:
    """Where the features that are judged stand in the panel."""
    return manifest.genes.slices()[match.kind]


def _like(match: GeneMatch, genes: QueryGenes) -> Sequence[int]:
    """Features of the query of the kind that is judged; all of them, where there is none."""
    if match.kind == "gene":
        return range(genes.size)
    return genes.rows_of(match.kind) or range(genes.size)


def _missing(match: GeneMatch, manifest: Manifest) -> tuple[dict[str, Any], ...]:
    genes, weights = manifest.genes, manifest.informativeness or manifest.expected_expression
    there = set(match.positions)
    run = _run(match, manifest)
    absent = [at for at in range(run.start, run.stop) if at not in there]
    absent.sort(key=lambda at: (-weights[at], at))
    symbols, ensembl = genes.symbols or genes.ids, genes.ensembl
    return tuple(
        {
            "gene": symbols[at] or genes.ids[at],
            "id": ensembl[at] if ensembl and ensembl[at] else genes.ids[at],
            "informativeness": None
            if manifest.informativeness is None
            else _significant(manifest.informativeness[at]),
            "expected_expression": _significant(manifest.expected_expression[at]),
        }
        for at in absent[:MISSING_LISTED]
    )


def _significant(share: float) -> float:
    return float(f"{share:.3g}")


class GeneBook:
    """Manifests, genes and coverages, worked out once: versions and ready queries never change."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._manifests: _Recent[Manifest] = _Recent(32)
        self._genes: _Recent[QueryGenes] = _Recent(4)
        self._coverages: _Recent[Coverage] = _Recent(4096)

    def manifest(self, version: ReferenceVersion) -> Manifest:
        known = self._manifests.get(version.id)
        if known is None:
            known = Manifest.model_validate(version.manifest)
            self._manifests.put(version.id, known)
        return known

    def coverage(self, query: Query, version: ReferenceVersion) -> Coverage:
        key = f"{query.id} {version.id}"
        known = self._coverages.get(key)
        if known is None:
            known = cover(self.genes(query), self.manifest(version))
            self._coverages.put(key, known)
        return known

    def genes(self, query: Query) -> QueryGenes:
        known = self._genes.get(query.id)
        if known is None:
            known = self._read(query)
            self._genes.put(query.id, known)
        return known

    def _read(self, query: Query) -> QueryGenes:
        try:
            stored = read_whole(self._storage, f"{query.canonical_prefix}/genes.json")
        except FileNotFoundError as error:
            raise UnknownQuery(
                f"The files of query {query.id} are gone: it has just been deleted.",
                fix="Upload the file again.",
            ) from error
        return QueryGenes.stored(json.loads(stored))


class _Recent(Generic[_Value]):
    """The last few values asked for."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[str, _Value] = OrderedDict()

    def get(self, key: str) -> _Value | None:
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: str, value: _Value) -> None:
        self._values[key] = value
        while len(self._values) > self._size:
            self._values.popitem(last=False)
