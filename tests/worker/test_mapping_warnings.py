"""What a finished mapping warns of."""

from __future__ import annotations

import dataclasses

import pytest

from app.coverage import Coverage, coverage_of
from models_store.gene_columns import QueryGenes
from models_store.gene_panel import Genes, Modality
from models_store.manifest import Architecture, Manifest
from tests.models_store.manifests import manifest
from worker.explained import Explained
from worker.mapping_warnings import mapping_warnings

GENES = ("CD4", "LYZ", "MS4A1", "NKG7")
PROTEINS = ("CD3", "CD4", "CD19")


def reference() -> Manifest:
    genes = Genes(
        ids=GENES + PROTEINS,
        modalities=(Modality(kind="gene", count=4), Modality(kind="protein", count=3)),
    )
    return manifest(
        kind="totalvi",
        genes=genes,
        architecture=Architecture(n_genes=4, n_proteins=3),
        expected_expression=(1 / 7,) * 7,
    )


def warned(*proteins: str) -> list[dict[str, str]]:
    types = ["Gene Expression"] * 4 + ["Antibody Capture"] * len(proteins)
    query = QueryGenes.of({"index": [*GENES, *proteins]}, types)
    of = reference()
    return told(coverage_of(of.match_genes(query), query, of))


def told(coverage: Coverage) -> list[dict[str, str]]:
    return mapping_warnings(
        reference(),
        coverage,
        Explained(1.0),
        of_design=(),
        n_empty=0,
        empty_column="cellgraft_empty",
    )


def test_proteins_that_meet_none_of_the_reference_are_named() -> None:
    (only,) = warned("CD3", "CD45RA")
    assert only["code"] == "missing-proteins"
    assert "1 of the 3 proteins" in only["detail"]
    assert "CD4, CD19" in only["detail"]
    assert "CD45RA" in only["detail"]


def test_a_panel_of_which_nothing_is_met_is_warned_of() -> None:
    (only,) = warned("hu.1", "hu.2")
    assert "0 of the 3 proteins" in only["detail"]


@pytest.mark.parametrize("proteins", [(), PROTEINS])
def test_a_query_without_proteins_or_with_all_of_them_is_not(proteins: tuple[str, ...]) -> None:
    assert warned(*proteins) == []


def test_few_regions_are_counted_anew_not_named_anew() -> None:
    query = QueryGenes.of({"index": list(GENES)})
    coverage = coverage_of(reference().match_genes(query), query, reference())
    few = dataclasses.replace(coverage, kind="region", expected_expression_covered=0.6)
    (only,) = told(few)
    assert "Absent regions count as zero" in only["detail"]
    assert only["fix"] == "Count fragments in the reference's own regions."
