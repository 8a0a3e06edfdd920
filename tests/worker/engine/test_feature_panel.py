"""Panels of several kinds: what is chosen of each, what is refused, and what is expected of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from app.problems import TooFewGenes, UntrainableReference
from models_store.architecture import Kind
from models_store.feature_kinds import FeatureKind
from models_store.gene_panel import Genes
from models_store.panel_matching import match_panel
from tests.worker.intake.conftest import check_here
from worker import feature_panel
from worker.alignment import AlignedCounts
from worker.canonical import CanonicalQuery
from worker.drafting import _expected
from worker.feature_panel import choose_panel

CELLS = 40
GENES = [f"G{at}" for at in range(6)]
REGIONS = [f"chr1:{at}00-{at}50" for at in range(1, 6)]
PROTEINS = ["G1", "CD3", "CD4"]
Write = Callable[..., CanonicalQuery]
# A protein may be called as its gene is.
pytestmark = pytest.mark.filterwarnings("ignore:Variable names are not unique")


def counts() -> np.ndarray:
    """Regions are open in 10, 20, 30, 40 and no cells; nobody has the last protein."""
    rng = np.random.default_rng(0)
    found = rng.poisson(2, size=(CELLS, len(GENES) + len(REGIONS) + len(PROTEINS)))
    found[:, 0] += 1
    for at, cells in enumerate((10, 20, 30, 40, 0)):
        found[:, 6 + at] = np.arange(CELLS) < cells
    found[:, 11] += 1
    found[:, 13] = 0
    return found.astype(np.float32)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A canonical query with these features, shuffled, proteins in obsm where asked."""

    def made(kinds: str = "gene region protein", *, obsm: bool = False) -> CanonicalQuery:
        types = (
            ["Gene Expression"] * len(GENES)
            + ["Peaks"] * len(REGIONS)
            + ["Antibody Capture"] * len(PROTEINS)
        )
        words = {"Gene Expression": "gene", "Peaks": "region", "Antibody Capture": "protein"}
        kept = [at for at, each in enumerate(types) if words[each] in kinds]
        names = [*GENES, *REGIONS, *PROTEINS]
        inside = [at for at in kept if not (obsm and types[at] == "Antibody Capture")]
        order = np.random.default_rng(1).permutation(inside)
        var = pd.DataFrame(
            {"feature_types": [types[at] for at in order]}, [names[at] for at in order]
        )
        obs = pd.DataFrame(index=[f"c{at}" for at in range(CELLS)])
        data = anndata.AnnData(sp.csr_matrix(counts()[:, order]), obs=obs, var=var)
        if obsm:
            beside = counts()[:, len(GENES) + len(REGIONS) :]
            data.obsm["protein_expression"] = pd.DataFrame(beside, obs.index, PROTEINS)
        data.write_h5ad(tmp_path / "query.h5ad")
        return check_here(tmp_path / "query.h5ad", tmp_path / "canonical")[1]

    return made


def chosen(kind: Kind, query: CanonicalQuery, **options: Any) -> tuple[np.ndarray, Genes]:
    rows = query.rows(0, query.n_cells)
    batch = pd.Series(["b"] * CELLS)
    return choose_panel(kind, query, rows, batch, {"n_top_genes": None, **options})


@pytest.mark.parametrize("obsm", [False, True])
def test_totalvi_has_genes_and_the_proteins_that_were_counted(write: Write, obsm: bool) -> None:
    query = write("gene protein", obsm=obsm)
    positions, panel = chosen("totalvi", query)
    assert panel.counts() == {"gene": 6, "region": 0, "protein": 2}
    assert sorted(panel.ids[:6]) == GENES
    assert sorted(panel.ids[6:]) == ["CD3", "G1"]
    index = query.gene_columns()["index"]
    assert [index[at] for at in positions] == list(panel.ids)
    found = match_panel(query.genes().alone("index"), panel, [1 / 8] * 8)
    assert found.n_absent == 0
    aligned = AlignedCounts(query, found).sparse(0, CELLS).toarray()
    assert (aligned == query.rows(0, CELLS).toarray()[:, positions]).all()


def test_multivi_has_the_regions_that_are_open_in_most_cells(write: Write) -> None:
    _, panel = chosen("multivi", write(), n_top_regions=2)
    assert panel.counts() == {"gene": 6, "region": 2, "protein": 2}
    assert sorted(panel.ids[6:8]) == REGIONS[2:4]
    _, without = chosen("multivi", write("gene region"))
    assert without.counts() == {"gene": 6, "region": 4, "protein": 0}
    assert without.modalities is not None
    assert [run.kind for run in without.modalities] == ["gene", "region"]


def test_genes_of_a_list(write: Write) -> None:
    _, panel = chosen("multivi", write(), genes=["G4", "G1"])
    assert panel.ids[:2] == ("G4", "G1")
    with pytest.raises(TooFewGenes, match="CD3"):
        chosen("totalvi", write(), genes=["CD3"])


@pytest.mark.parametrize(
    ("kind", "kinds", "lacks"),
    [
        ("totalvi", "gene region", "no proteins"),
        ("totalvi", "protein region", "no genes"),
        ("multivi", "gene protein", "no regions"),
        ("multivi", "region protein", "no genes"),
        ("peakvi", "gene", "names no feature a peak"),
    ],
)
def test_what_a_file_lacks_is_told(write: Write, kind: Kind, kinds: str, lacks: str) -> None:
    with pytest.raises(UntrainableReference, match=lacks) as caught:
        chosen(kind, write(kinds))
    assert caught.value.fix


@pytest.mark.parametrize(
    ("kind", "uncounted", "says"),
    [
        ("totalvi", "protein", "no count of a protein"),
        ("totalvi", "gene", "no count of a gene"),
        ("multivi", "region", "no count of a region"),
        ("peakvi", "region", "no count of a region"),
        ("poissonvi", "region", "no count of a region"),
    ],
)
def test_a_kind_of_features_that_nobody_counted_is_told(
    write: Write, kind: Kind, uncounted: FeatureKind, says: str
) -> None:
    query = write()
    rows = query.rows(0, CELLS).toarray()
    rows[:, query.genes().rows_of(uncounted)] = 0
    batch, options = pd.Series(["b"] * CELLS), {"n_top_genes": None}
    with pytest.raises(UntrainableReference, match=says) as caught:
        choose_panel(kind, query, sp.csr_matrix(rows), batch, options)
    assert caught.value.fix


def test_scvi_sees_genes_alone(write: Write) -> None:
    _, panel = chosen("scvi", write())
    assert sorted(panel.ids) == GENES
    assert panel.modalities is None


def test_cells_without_genes_do_not_choose_them(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = write("gene region")
    rows = query.rows(0, CELLS).toarray()
    rows[np.ix_(np.arange(15), query.genes().rows_of("gene"))] = 0
    seen: list[tuple[int, int]] = []

    def choose(counts: sp.csr_matrix, *_: Any, **__: Any) -> np.ndarray:
        seen.append(counts.shape)
        return np.arange(2)

    monkeypatch.setattr(feature_panel, "choose_genes", choose)
    batch = pd.Series(["b"] * CELLS)
    _, panel = choose_panel("multivi", query, sp.csr_matrix(rows), batch, {})
    assert seen == [(CELLS - 15, len(GENES))]
    assert panel.counts() == {"gene": 2, "region": 4, "protein": 0}


def test_expected_expression_is_by_kind() -> None:
    """Two cells, the second without regions: shares within each kind, by hand."""
    matrix = sp.csr_matrix(np.array([[1, 3, 2, 2], [2, 2, 0, 0]], dtype=np.float32))
    panel = Genes.model_validate(
        {
            "ids": ("a", "b", "x", "y"),
            "modalities": ({"kind": "gene", "count": 2}, {"kind": "region", "count": 2}),
        }
    )
    # Genes have 8 of 12 counts: shares 1/4 and 1/2 of the first. Regions have 4, halved.
    expected = [8 / 12 * 0.375, 8 / 12 * 0.625, 4 / 12 * 0.5, 4 / 12 * 0.5]
    assert _expected(matrix, np.arange(4), panel) == pytest.approx(expected)
    genes = Genes(ids=("a", "b"))
    assert _expected(matrix, np.arange(2), genes) == pytest.approx([0.375, 0.625])
