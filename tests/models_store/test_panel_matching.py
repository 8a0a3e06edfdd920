"""Panels of several kinds: features meet their own kind, and one kind decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from models_store.feature_kinds import FeatureKind
from models_store.gene_columns import QueryGenes
from models_store.gene_matching import GeneMatch, match_genes
from models_store.gene_panel import Genes, Modality
from models_store.panel_matching import match_panel
from worker.alignment import AlignedCounts

GENES = ("CD4", "LYZ", "MS4A1", "NKG7")
REGIONS = ("chr1:100-200", "chr1:300-400", "chr2:5-500")
PROTEINS = ("CD4", "CD3")
TYPES = {"gene": "Gene Expression", "region": "Peaks", "protein": "Antibody Capture"}


def panel(
    genes: Sequence[str] = GENES,
    regions: Sequence[str] = REGIONS,
    proteins: Sequence[str] = PROTEINS,
) -> Genes:
    runs: dict[FeatureKind, Sequence[str]] = {
        "gene": genes,
        "region": regions,
        "protein": proteins,
    }
    return Genes(
        ids=(*genes, *regions, *proteins),
        modalities=tuple(Modality(kind=kind, count=len(run)) for kind, run in runs.items() if run),
    )


def query(*features: tuple[str, str], **columns: list[str]) -> QueryGenes:
    names = [name for name, _ in features]
    return QueryGenes.of(
        {"index": names, **columns}, [TYPES.get(kind, kind) for _, kind in features]
    )


def match(found: QueryGenes, genes: Genes | None = None) -> GeneMatch:
    genes = genes or panel()
    return match_panel(found, genes, [1 / len(genes.ids)] * len(genes.ids))


def test_each_kind_meets_its_own() -> None:
    found = match(
        query(
            ("CD4", "protein"),
            ("CD4", "gene"),
            ("chr1:300-400", "region"),
            ("LYZ", "region"),
            (" chr2:5-500 ", "region"),
            ("CD3", "CRISPR Guide Capture"),
            ("LYZ", "gene"),
        )
    )
    assert found.positions == (7, 0, 5, -1, 6, -1, 1)
    assert found.width == 9
    assert found.n_absent == 4
    assert [(each.kind, each.n_matched, each.n_panel) for each in found.kinds] == [
        ("gene", 2, 4),
        ("region", 2, 3),
        ("protein", 1, 2),
    ]
    assert [each.expected_expression_covered for each in found.kinds] == pytest.approx(
        [0.5, 2 / 3, 0.5]
    )


def test_the_better_covered_of_genes_and_regions_decides() -> None:
    paired = query(("CD4", "gene"), *((name, "region") for name in REGIONS))
    assert (match(paired).kind, match(paired).n_matched) == ("region", 3)
    genes = query(*((name, "gene") for name in GENES))
    assert (match(genes).kind, match(genes).n_matched, match(genes).n_panel) == ("gene", 4, 4)


def test_proteins_never_decide() -> None:
    found = match(query(("CD4", "protein"), ("CD3", "protein")), panel(regions=()))
    assert (found.kind, found.n_matched) == ("gene", 0)
    without = match(query(*((name, "gene") for name in GENES)), panel(regions=()))
    assert (without.kind, without.expected_expression_covered) == ("gene", pytest.approx(1))


def test_case_of_a_protein_matters_only_where_it_tells_them_apart() -> None:
    names = [(" cd3", "protein"), ("Cd4", "protein")]
    assert match(query(*names)).positions == (8, 7)
    # Spelt as the panel has it, and otherwise: the other one is another protein.
    assert match(query(("CD3", "protein"), ("cd3", "protein"))).positions == (8, -1)
    assert match(query(("cd3", "protein"), ("Cd3", "protein"))).positions == (-1, -1)
    two = panel(proteins=("CD3", "cd3"))
    assert match(query(("Cd3", "protein")), two).positions == (-1,)
    # A region is another one by its numbers alone.
    assert match(query(("chr1:101-200", "region"))).positions == (-1,)


def test_names_may_stand_in_another_column() -> None:
    found = match(
        query(("id1", "protein"), ("id2", "protein"), ("id3", "gene"), names=["CD4", "CD3", "LYZ"])
    )
    assert found.positions == (7, 8, 1)


def test_features_without_kinds_may_be_regions_and_no_proteins() -> None:
    untyped = QueryGenes.of({"index": ["chr1:100-200", "CD3", "CD4"]})
    assert match(untyped).positions == (4, -1, 0)


def test_proteins_beside_them_do_not_make_them_genes() -> None:
    features = [*((name, "") for name in REGIONS), ("CD3", "protein")]
    found = match(query(*features), panel(genes=(), proteins=()))
    assert found.positions == (0, 1, 2, -1)
    told = [*((name, "gene") for name in REGIONS), ("CD3", "protein")]
    assert match(query(*told), panel(genes=(), proteins=())).n_matched == 0


def test_a_panel_of_genes_is_matched_as_ever() -> None:
    genes = Genes(ids=GENES)
    found = query(("CD4", "gene"), ("LYZ", "protein"))
    assert match(found, genes) == match_genes(found, genes.panel, [0.25] * 4)
    assert (match(found, genes).width, match(found, genes).n_absent) == (4, 3)


def test_counts_are_aligned_over_the_whole_panel() -> None:
    found = match(
        query(
            ("CD4", "protein"),
            ("CD4", "gene"),
            ("CD4", "gene"),
            ("guide", "CRISPR Guide Capture"),
            ("chr2:5-500", "region"),
        )
    )
    counts = sp.csr_matrix(np.array([[3, 1, 2, 9, 0], [0, 0, 4, 9, 5]], dtype=np.float32))

    class Rows:
        n_cells = 2

        def rows(self, start: int, stop: int) -> sp.csr_matrix:
            return counts[start:stop]

        def rows_of(self, cells: np.ndarray) -> sp.csr_matrix:
            return counts[cells]

    aligned = AlignedCounts(Rows(), found).sparse(0, 2).toarray()
    assert aligned.tolist() == [[3, 0, 0, 0, 0, 0, 0, 3, 0], [4, 0, 0, 0, 0, 0, 5, 0, 0]]


@given(st.permutations(range(9)), st.integers(0, 9))
def test_any_order_and_any_part_of_the_panel_finds_its_place(order: list[int], size: int) -> None:
    genes = panel()
    kinds = ["gene"] * 4 + ["region"] * 3 + ["protein"] * 2
    part = order[: max(1, size)]
    found = match(query(*((genes.ids[at], kinds[at]) for at in part)))
    assert found.positions == tuple(part)
    assert found.width - found.n_absent == len(part)


@pytest.mark.parametrize(
    "spelt", ["chr1-300-400", "1:300-400", "chr1_300_400", "CHR1:300-400", "1-300-400"]
)
def test_a_region_is_the_interval_that_it_names(spelt: str) -> None:
    found = match(query(("LYZ", "gene"), (spelt, "region"), ("chr1:300-401", "region")))
    assert found.positions == (1, 5, -1)


def test_of_one_interval_spelt_twice_the_spelling_of_the_panel_is_taken() -> None:
    found = match(query(("1:300-400", "region"), ("chr1:300-400", "region")))
    assert found.positions == (-1, 5)
    found = match(query(("1:300-400", "region"), ("chr1-300-400", "region")))
    assert found.positions == (-1, -1), "which one it is cannot be told"


@pytest.mark.parametrize(
    "spelt",
    ["CD3_TotalSeqB", "CD3-TotalSeqC", "cd3 TotalSeq-A", "ADT_CD3", "adt:CD3", "CD3-protein"],
)
def test_what_antibodies_have_around_their_names_is_taken_off(spelt: str) -> None:
    found = match(query(("LYZ", "gene"), (spelt, "protein"), ("CD45RA", "protein")))
    assert found.positions == (1, 8, -1)
    told = found.kinds[-1]
    assert (told.missing, told.unknown) == (("CD4",), ("CD45RA",))


def test_a_protein_that_was_made_unique_beside_its_gene() -> None:
    """As `var_names_make_unique` renames it; `CD3-1` beside no `CD3` is a name of its own."""
    found = match(query(("CD4", "gene"), ("CD4-1", "protein"), ("CD3-1", "protein")))
    assert found.positions == (0, 7, -1)


def test_two_antibodies_against_one_protein_are_not_guessed_at() -> None:
    found = match(query(("LYZ", "gene"), ("CD3_TotalSeqB", "protein"), ("ADT_CD3", "protein")))
    assert found.positions == (1, -1, -1)
