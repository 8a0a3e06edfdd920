"""The panel of a new reference, of all kinds of features that its kind has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from app.problems import UntrainableReference
from models_store.architecture import FEATURES_OF
from models_store.feature_kinds import KINDS, FeatureKind
from models_store.gene_names import NO_NAME
from models_store.gene_panel import Genes, Modality
from models_store.manifest import Kind
from worker.canonical import CanonicalQuery
from worker.panel import choose_genes, gene_table, genes_alone, require_distinct
from worker.region_panel import N_TOP_REGIONS, choose_regions, region_table, regions_alone

Positions = npt.NDArray[np.int64]

NEEDED: Mapping[Kind, tuple[FeatureKind, ...]] = {
    "totalvi": ("gene", "protein"),
    "multivi": ("gene", "region"),
}
"""Of kinds of several kinds of features: those without which nothing is learnt that others do not
learn. Proteins of MULTIVI may be absent."""
WHERE: Mapping[FeatureKind, str] = {
    "gene": "Upload genes and the others in one file, each with its type in `feature_types` of var",
    "region": "Say which features are peaks in `feature_types` of var (`Peaks`), or upload an h5mu "
    "with a modality `atac`",
    "protein": "Store protein counts in obsm and name the table with proteins_key=..., or give "
    "them the type `Antibody Capture` in `feature_types` of var",
}
INSTEAD: Mapping[Kind, str] = {"totalvi": "SCVI", "multivi": "SCVI or PEAKVI"}


def choose_panel(
    kind: Kind,
    query: CanonicalQuery,
    counts: sp.csr_matrix,
    batch: pd.Series,
    options: Mapping[str, Any],
) -> tuple[Positions, Genes]:
    """The chosen features of the file, and what they are called: genes, regions, proteins.

    Highly variable genes, regions that are open in most cells, and every protein with a count.

    Args:
        kind: of the reference.
        query: what it is built from.
        counts: all of its cells.
        batch: batch category of each cell.
        options: of the build.

    Raises:
        UntrainableReference: the file lacks a kind of features that this kind of reference needs,
            or no cell has a count of them.
        TooFewGenes: a list names features that the file lacks, or two have one name.
        NotCounts: the highly variable genes cannot be found in these numbers.
    """
    kinds = FEATURES_OF[kind]
    if kinds == ("gene",):
        genes = _genes(query, counts, batch, options)
        return genes, gene_table(query.gene_columns(), genes)
    if kinds == ("region",):
        regions = _regions(query, counts, options, given=options.get("genes"))
        return regions, region_table(_names(query, regions))
    _require(kind, query, counts)
    chosen = {
        "gene": _genes(query, *_measured(query, counts, batch), options),
        "region": _regions(query, counts, options, given=None) if "region" in kinds else _NONE,
        "protein": _proteins(query, counts) if "protein" in kinds else _NONE,
    }
    return np.concatenate([chosen[each] for each in KINDS]), _joined(query, chosen)


_NONE: Positions = np.empty(0, dtype=np.int64)


def _genes(
    query: CanonicalQuery, counts: sp.csr_matrix, batch: pd.Series, options: Mapping[str, Any]
) -> Positions:
    genes = genes_alone(query)
    if not len(genes):
        raise UntrainableReference(
            "The file has no genes: it says of every feature that it is something else.",
            fix=f"{WHERE['gene']}; of peaks alone build kind PEAKVI or POISSONVI.",
            errors=[{"pointer": "/var", "detail": "no feature is a gene"}],
        )
    columns = query.gene_columns()
    found = choose_genes(
        counts[:, genes],
        {name: [names[at] for at in genes] for name, names in columns.items()},
        batch,
        given=options.get("genes"),
        n_top=options.get("n_top_genes", 2000),
    )
    return genes[found]


def _measured(
    query: CanonicalQuery, counts: sp.csr_matrix, batch: pd.Series
) -> tuple[sp.csr_matrix, pd.Series]:
    """Cells with counts of genes: others say nothing of how genes vary."""
    cells = np.flatnonzero(counts[:, genes_alone(query)].getnnz(axis=1))
    return counts[cells], batch.iloc[cells]


def _regions(
    query: CanonicalQuery, counts: sp.csr_matrix, options: Mapping[str, Any], *, given: Any
) -> Positions:
    regions = regions_alone(query)
    n_top = options.get("n_top_regions", N_TOP_REGIONS)
    names = _names(query, regions)
    return regions[choose_regions(counts[:, regions], names, given=given, n_top=n_top)]


def _proteins(query: CanonicalQuery, counts: sp.csr_matrix) -> Positions:
    """All that any cell has a count of: of the others nothing can be learnt."""
    proteins = np.array(query.genes().rows_of("protein"), dtype=np.int64)
    rows = counts[:, proteins]
    seen: Positions = np.unique(rows.indices[rows.data > 0]).astype(np.int64)
    found: Positions = proteins[seen]
    return found


def _names(query: CanonicalQuery, chosen: Positions) -> list[str]:
    index = query.gene_columns()["index"]
    return [index[at] for at in chosen]


def _require(kind: Kind, query: CanonicalQuery, counts: sp.csr_matrix) -> None:
    for needed in NEEDED[kind]:
        rows = np.array(query.genes().rows_of(needed), dtype=np.int64)
        if not len(rows):
            raise UntrainableReference(
                f"The file has no {needed}s, and kind {kind.upper()} learns "
                f"{' and '.join(f'{each}s' for each in NEEDED[kind])} together.",
                fix=f"{WHERE[needed]}; or build kind {INSTEAD[kind]}.",
                errors=[{"pointer": "/var", "detail": f"no feature is a {needed}"}],
            )
        if not counts[:, rows].count_nonzero():
            raise UntrainableReference(
                f"The cells have no count of a {needed}, and kind {kind.upper()} learns "
                f"{' and '.join(f'{each}s' for each in NEEDED[kind])} together.",
                fix=f"Upload the counts of the {needed}s, or build kind {INSTEAD[kind]}.",
            )


def _joined(query: CanonicalQuery, chosen: Mapping[str, Positions]) -> Genes:
    genes = gene_table(query.gene_columns(), chosen["gene"])
    others = {kind: tuple(_names(query, chosen[kind])) for kind in KINDS if kind != "gene"}
    for names in others.values():
        require_distinct(names)
    added = tuple(name for names in others.values() for name in names)
    unknown = (NO_NAME,) * len(added)
    return Genes(
        ids=genes.ids + added,
        symbols=None if genes.symbols is None else genes.symbols + unknown,
        ensembl=None if genes.ensembl is None else genes.ensembl + unknown,
        modalities=tuple(
            Modality(kind=kind, count=len(chosen[kind])) for kind in KINDS if len(chosen[kind])
        ),
    )
