"""How well the genes of a query cover the panel of a reference."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from app.problems import UnknownQuery
from app.storage import Storage, read_whole
from app.tables import Query, ReferenceVersion
from models_store.manifest import Manifest

EXAMPLES = 5
_Value = TypeVar("_Value")

GeneColumns = Mapping[str, Sequence[str]]


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

    @property
    def advice(self) -> Literal["good", "low", "refused"]:
        if self.n_matched == 0 or self.share < self.refuse_below:
            return "refused"
        return "low" if self.share < self.warn_below else "good"


def cover(genes: GeneColumns, manifest: Manifest) -> Coverage:
    match = manifest.match_genes(genes)
    panel = dict(manifest.genes.columns())[match.reference_column]
    return Coverage(
        n_matched=match.n_matched,
        n_panel=match.n_panel,
        share=match.n_matched / match.n_panel,
        expected_expression_covered=match.expected_expression_covered,
        query_column=match.query_column,
        reference_column=match.reference_column,
        query_examples=tuple(genes[match.query_column][:EXAMPLES]),
        reference_examples=tuple(panel[:EXAMPLES]),
        refuse_below=manifest.thresholds.refuse_below,
        warn_below=manifest.thresholds.warn_below,
    )


class GeneBook:
    """Manifests and coverages, worked out once: versions and ready queries never change."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._manifests: _Recent[Manifest] = _Recent(32)
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

    def genes(self, query: Query) -> GeneColumns:
        try:
            stored = json.loads(read_whole(self._storage, f"{query.canonical_prefix}/genes.json"))
        except FileNotFoundError as error:
            raise UnknownQuery(
                f"The files of query {query.id} are gone: it has just been deleted.",
                fix="Upload the file again.",
            ) from error
        return {"index": stored["index"], **stored.get("columns", {})}


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
