"""The panel of a reference of regions: which of them, in the order of the file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from app.problems import TooFewGenes, UntrainableReference
from models_store.gene_columns import GeneColumn
from models_store.gene_panel import Genes, Modality
from worker.canonical import CanonicalQuery

N_TOP_REGIONS = 50_000
"""Regions of a build that names no other number."""

Positions = npt.NDArray[np.int64]


def regions_alone(query: CanonicalQuery) -> Positions:
    """Positions of the features that are regions: all, of a file that says nothing of kinds.

    Raises:
        UntrainableReference: the file says what its features are, or their names do, and none is a
            region.
    """
    genes = query.genes()
    found = np.array(genes.regions(), dtype=np.int64)
    if not len(found):
        raise UntrainableReference(
            "The file names no feature a peak, and a reference of regions is made of peaks.",
            fix="Say so in a column `feature_types` of var (`Peaks`), or build kind SCVI.",
        )
    if not genes.are_told and _are_known_genes(genes.columns["index"]):
        examples = ", ".join(genes.columns["index"].names[at] for at in found[:3])
        raise UntrainableReference(
            f"The features are genes by their names ({examples}), and a reference of regions is "
            "made of peaks.",
            fix="Build kind SCVI. If they are peaks all the same, say so in a column "
            "`feature_types` of var (`Peaks`).",
        )
    return found


def _are_known_genes(names: GeneColumn) -> bool:
    """By Ensembl ids or by genes that everybody knows; not by looking like symbols alone."""
    return names.names_genes and any(each.told_by != "spelling" for each in names.species)


def choose_regions(
    counts: sp.csr_matrix, names: Sequence[str], *, given: Sequence[str] | None, n_top: int | None
) -> Positions:
    """Positions of the panel's regions, ascending for a choice, in the given order for a list.

    Args:
        counts: cells x regions.
        names: of the regions.
        given: names of regions; they win over `n_top`.
        n_top: so many that are open in the most cells; of equals the first. None: all.

    Raises:
        TooFewGenes: the list names regions that the file lacks.
        UntrainableReference: no region is open in a cell.
    """
    if given is not None:
        return _given(names, given)
    n_cells = np.bincount(counts.indices[counts.data > 0], minlength=counts.shape[1])
    seen = int((n_cells > 0).sum())
    if not seen:
        raise UntrainableReference(
            "The cells have no count of a region, and a reference of regions learns from these.",
            fix="Upload the counts of the regions.",
        )
    if n_top is None or n_top >= seen:
        return np.flatnonzero(n_cells).astype(np.int64)
    most = np.argsort(-n_cells, kind="stable")[:n_top]
    return np.sort(most).astype(np.int64)


def _given(names: Sequence[str], given: Sequence[str]) -> Positions:
    where = {name: position for position, name in reversed(list(enumerate(names)))}
    absent = [name for name in given if name not in where]
    if absent or not given:
        raise TooFewGenes(
            f"{len(absent)} of the {len(given)} listed regions are not in the file"
            f"{', for example ' if absent else ''}{', '.join(absent[:5])}.",
            fix="List regions of the file as its var index names them.",
        )
    return np.array([where[name] for name in dict.fromkeys(given)], dtype=np.int64)


def region_table(names: Sequence[str]) -> Genes:
    """The panel of these regions.

    Raises:
        TooFewGenes: two share a name, so weights could not be told apart.
    """
    if len(set(names)) != len(names):
        raise TooFewGenes(
            "The var index names a region more than once among the reference's.",
            fix="Make the var index unique (`adata.var_names_make_unique()`) and upload again.",
        )
    return Genes(ids=tuple(names), modalities=(Modality(kind="region", count=len(names)),))
