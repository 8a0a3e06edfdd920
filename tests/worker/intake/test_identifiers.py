"""What a check says of the names of genes, in every column that may hold them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

N = 30
SYMBOLS = [f"CD{at}A" for at in range(N)]
ENSEMBL = [f"ENSG{at:011d}" for at in range(N)]


@pytest.fixture
def told(check: Callable[..., Any], tmp_path: Path) -> Callable[..., tuple[dict[str, Any], Any]]:
    """The part of the report on genes with the findings, and the gene table."""

    def of(index: list[str], **columns: list[str]) -> tuple[dict[str, Any], Any]:
        var = pd.DataFrame(columns, index=pd.Index(index, dtype=object))
        cells = anndata.AnnData(np.ones((4, len(index)), dtype=np.float32), var=var)
        cells.write_h5ad(tmp_path / "q.h5ad")
        report, query = check(tmp_path / "q.h5ad")
        found = {each["code"]: each for each in report["problems"]}
        return {**report["genes"], "found": found}, query

    return of


def test_plain_symbols_need_no_word(told: Any) -> None:
    genes, _ = told(SYMBOLS, gene_ids=ENSEMBL)
    assert genes["found"] == {}
    assert genes["columns"] == ["index", "gene_ids"]
    assert genes["species"] == ["human"]
    kinds = {name: each["kind"] for name, each in genes["identifiers"].items()}
    assert kinds == {"index": "symbols", "gene_ids": "ensembl"}


def test_prefixes_and_versions_are_noted(told: Any) -> None:
    genes, _ = told([f"hg19_{name}" for name in SYMBOLS])
    assert genes["found"]["gene-identifiers"]["severity"] == "note"
    assert "hg19" in genes["found"]["gene-identifiers"]["detail"]
    assert genes["identifiers"]["index"]["prefixes"] == {"hg19": N}
    genes, _ = told([f"{name}.2" for name in ENSEMBL])
    assert "versions" in genes["found"]["gene-identifiers"]["detail"]


def test_names_in_another_column_are_noted(told: Any) -> None:
    genes, _ = told([str(at) for at in range(N)], feature_name=SYMBOLS)
    assert "'feature_name'" in genes["found"]["gene-identifiers"]["detail"]
    assert "unknown-identifiers" not in genes["found"]


def test_no_names_at_all_are_warned_about(told: Any) -> None:
    peaks = [f"chr1:{at}000-{at}500" for at in range(10, 10 + N)]
    genes, _ = told(peaks, entrez=[str(at) for at in range(N)])
    found = genes["found"]["unknown-identifiers"]
    assert found["severity"] == "warning"
    assert "index: intervals of a genome; entrez: numbers" in found["detail"]
    assert found["fix"].startswith("Nothing needs doing for a reference of peaks")


def test_of_peaks_alone_nothing_is_said_of_genes(told: Any) -> None:
    peaks = [f"chr1:{at}000-{at}500" for at in range(10, 10 + N)]
    genes, _ = told(peaks, feature_types=["Peaks"] * N)
    assert list(genes["found"]) == ["other-features"]


@pytest.mark.parametrize("word", ["Antibody_Capture", "antibody-capture", " ADT ", "CITE-seq"])
def test_a_type_in_another_spelling(told: Any, word: str) -> None:
    genes, query = told(SYMBOLS, feature_types=["gene_expression"] * (N - 3) + [word] * 3)
    assert query.genes().count_kinds() == {"gene": N - 3, "protein": 3}
    assert genes["found"]["other-features"]["fix"] == "Nothing needs doing."


def test_a_type_that_is_not_known_is_named(told: Any) -> None:
    genes, query = told(SYMBOLS, feature_types=["Gene Expression"] * (N - 3) + ["Wombat"] * 3)
    assert query.genes().count_kinds() == {"gene": N - 3}
    told_of = genes["found"]["other-features"]
    assert "What 'Wombat' is, is not known here" in told_of["detail"]
    assert "`Antibody Capture`" in told_of["fix"]


def test_two_species_are_noted(told: Any) -> None:
    human, mouse = SYMBOLS, [f"Cd{at}a" for at in range(N)]
    genes, _ = told([*(f"GRCh38_{n}" for n in human), *(f"mm10___{n}" for n in mouse)])
    assert set(genes["species"]) == {"human", "mouse"}
    assert "several species" in genes["found"]["gene-identifiers"]["detail"]


@pytest.mark.parametrize("column", ["feature_types", "feature_type", "modality"])
def test_features_that_are_no_genes_are_kept_and_left_out(told: Any, column: str) -> None:
    types = ["Gene Expression"] * (N - 3) + ["Antibody Capture"] * 3
    genes, query = told(SYMBOLS, **{column: types})
    assert genes["found"]["other-features"]["severity"] == "note"
    assert "3 'Antibody Capture'" in genes["found"]["other-features"]["detail"]
    assert query.genes().left_out == {N - 3, N - 2, N - 1}
    assert query.n_genes == N


def test_a_column_of_other_things_is_no_type(told: Any) -> None:
    genes, query = told(SYMBOLS, biotype=["protein_coding", "lncRNA"] * (N // 2))
    assert genes["found"] == {}
    assert query.genes().left_out == frozenset()
