"""The gene panel of a new reference: which genes, in which order, under which names."""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from app.problems import NotCounts, TooFewGenes
from models_store.gene_columns import GeneColumn
from models_store.gene_names import NO_NAME
from models_store.gene_panel import Genes, Modality
from worker.canonical import CanonicalQuery

MOSTLY = 0.9
SMALLEST_BATCH_FOR_GENE_CHOICE = 20


def choose_genes(
    counts: sp.csr_matrix,
    columns: dict[str, list[str]],
    batch: pd.Series,
    *,
    given: Sequence[str] | None,
    n_top: int | None,
) -> npt.NDArray[np.int64]:
    """Positions of the panel's genes, ascending for a choice, in the given order for a list.

    Args:
        counts: cells x genes of the file.
        columns: gene name columns, the var index first.
        batch: batch category of each cell.
        given: gene names of any of the columns; they win over `n_top`.
        n_top: so many highly variable genes (scanpy's seurat_v3: Stuart et al. 2019); None: all.

    Raises:
        TooFewGenes: the list names genes that the file lacks.
        NotCounts: the highly variable genes cannot be found in these numbers.
    """
    if given is not None:
        return _given(columns, given)
    if n_top is None or n_top >= counts.shape[1]:
        return np.arange(counts.shape[1])
    return _highly_variable(counts, batch, n_top)


def _given(columns: dict[str, list[str]], given: Sequence[str]) -> npt.NDArray[np.int64]:
    names = max(columns.values(), key=lambda column: len(set(column).intersection(given)))
    where = {gene: position for position, gene in reversed(list(enumerate(names)))}
    if not given:
        raise TooFewGenes(
            "The list of genes is empty.", fix="List at least one gene, or leave the list out."
        )
    absent = [gene for gene in given if gene not in where]
    if absent:
        raise TooFewGenes(
            f"{len(absent)} of the {len(given)} listed genes are not in the file, for example "
            f"{', '.join(absent[:5])}.",
            fix="List genes of the file, one kind of name throughout.",
        )
    return np.array([where[gene] for gene in dict.fromkeys(given)], dtype=np.int64)


def _highly_variable(counts: sp.csr_matrix, batch: pd.Series, n_top: int) -> npt.NDArray[np.int64]:
    """seurat_v3 ranks genes within each batch, so batches too small for its curve are pooled."""
    # Imported here because they take seconds, and a panel that is given needs neither.
    import anndata
    import scanpy

    sizes = batch.value_counts()
    large = sizes.index[sizes >= SMALLEST_BATCH_FOR_GENE_CHOICE]
    by_batch = len(large) == len(sizes) and len(sizes) > 1
    obs = pd.DataFrame({"batch": pd.Categorical(batch.to_numpy())})
    obs.index = obs.index.astype(str)
    data = anndata.AnnData(counts, obs=obs)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scanpy warns of pandas and numpy details
            found = scanpy.pp.highly_variable_genes(
                data,
                n_top_genes=n_top,
                flavor="seurat_v3",
                batch_key="batch" if by_batch else None,
                inplace=False,
            )
    except ValueError as error:
        raise NotCounts(
            f"The highly variable genes could not be found: {error}.",
            fix="Build from more cells, or give the gene list with `genes`.",
        ) from error
    return np.flatnonzero(found["highly_variable"].to_numpy()).astype(np.int64)


def gene_table(columns: dict[str, list[str]], chosen: npt.NDArray[np.int64]) -> Genes:
    """The panel under its var index, with symbols and Ensembl ids where a column holds them.

    Raises:
        TooFewGenes: two chosen genes share a name, so weights could not be told apart.
    """
    index = _at(columns["index"], chosen)
    require_distinct(index)
    return named_genes(index, [_at(column, chosen) for column in columns.values()])


def require_distinct(index: Sequence[str]) -> None:
    """Raises TooFewGenes where two features of one kind share a name."""
    if len(set(index)) != len(index):
        twice = next(gene for gene in index if index.count(gene) > 1)
        raise TooFewGenes(
            f"The var index names {twice!r} more than once among the reference's genes.",
            fix="Make the var index unique (`adata.var_names_make_unique()`) and upload again.",
        )


def named_genes(
    ids: tuple[str, ...],
    columns: Sequence[Sequence[str]],
    modalities: tuple[Modality, ...] | None = None,
) -> Genes:
    """A panel with the symbols and the Ensembl ids that columns of names hold, the first of each.

    They are kept without prefix and version; `ids` stay as they are, because weights go by them.

    Args:
        ids: the panel's genes.
        columns: names of the same genes, empty where a gene has none.
        modalities: the kinds of the panel's features, where they are not all genes.
    """
    symbols = ensembl = None
    for names in columns:
        column = GeneColumn(names)
        plain = tuple(column.name_at(row) for row in range(len(names)))
        if column.kind == "ensembl":
            ensembl = ensembl or plain
        elif column.kind == "symbols" and len(column.plain) > MOSTLY * _named(plain):
            symbols = symbols or plain
    return Genes(ids=ids, symbols=symbols, ensembl=ensembl, modalities=modalities)


def _named(names: Sequence[str]) -> int:
    return sum(name != NO_NAME for name in names)


def genes_alone(query: CanonicalQuery) -> npt.NDArray[np.int64]:
    """Positions of the features that are genes: antibodies and peaks are in no panel."""
    left_out = query.genes().left_out
    return np.array([at for at in range(query.n_genes) if at not in left_out], dtype=np.int64)


def _at(column: Sequence[str], chosen: npt.NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(column[position] for position in chosen)
