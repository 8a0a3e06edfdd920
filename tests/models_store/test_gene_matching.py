"""Genes meet whatever they are called by, and those of another species do not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from models_store.feature_kinds import kinds_of
from models_store.gene_columns import GeneColumn, QueryGenes
from models_store.gene_matching import GeneMatch, match_genes
from models_store.gene_names import kind_of_name, plain_names
from models_store.gene_panel import Genes
from models_store.gene_species import declared_species

SYMBOLS = (
    *("CD3D", "LYZ", "NKX2-1", "HLA-A", "AL627309.1", "C1orf159", "MT-ND1", "GNLY", "MS4A1"),
    *("CD8A", "CD8B", "PPBP", "NKG7", "FCER1A", "CST3", "IL7R", "CCR7", "S100A4", "CD14"),
    *("FCGR3A", "MS4A7", "GZMB", "GZMK", "JCHAIN"),
)
ENSEMBL = tuple(f"ENSG{at:011d}" for at in range(len(SYMBOLS)))
MOUSE = (
    *("Cd3d", "Lyz2", "Nkx2-1", "H2-K1", "Gm1992", "1700001C02Rik", "mt-Nd1", "Nkg7", "Ms4a1"),
    *("Cd8a", "Cd8b1", "Ppbp", "Gzma", "Fcer1a", "Cst3", "Il7r", "Ccr7", "S100a4", "Cd14"),
    *("Fcgr3", "Ms4a7", "Gzmb", "Gzmk", "Jchain"),
)


def match(
    query: Sequence[str] | dict[str, Sequence[str]],
    *,
    panel: Genes | None = None,
    types: Sequence[str] | None = None,
) -> GeneMatch:
    panel = panel or Genes(ids=SYMBOLS)
    columns = query if isinstance(query, dict) else {"index": query}
    n = len(panel.ids)
    return match_genes(QueryGenes.of(columns, types), panel.panel, [1 / n] * n)


BOTH = Genes(ids=SYMBOLS, symbols=SYMBOLS, ensembl=ENSEMBL)


@pytest.mark.parametrize(
    "names",
    [
        [f"hg19_{name}" for name in SYMBOLS],
        [f"GRCh38_{name}" for name in SYMBOLS],
        [f"GRCh38-{name}" for name in SYMBOLS],
        [f"GRCh38______{name}" for name in SYMBOLS],
        [f"GRCh38-2020-A_{name}" for name in SYMBOLS],
        [f"hg19_hg19_{name}" for name in SYMBOLS],
        [f"HUMAN_{name}" for name in SYMBOLS],
        [f"my.genome_{name}" for name in SYMBOLS],
        [f" {name}\t" for name in SYMBOLS],
        [name.lower() for name in SYMBOLS],
        [name.upper() for name in SYMBOLS],
        [name.replace("-", ".") for name in SYMBOLS],
        [f"{name}.7" for name in ENSEMBL],
        [f"GRCh38_{name}.12" for name in ENSEMBL],
        [name.lower() for name in ENSEMBL],
        [f"{one}_{other}" for one, other in zip(ENSEMBL, SYMBOLS, strict=True)],
        [f"{one}.3|{other}" for one, other in zip(ENSEMBL, SYMBOLS, strict=True)],
        [f"{other}_{one}" for one, other in zip(ENSEMBL, SYMBOLS, strict=True)],
        [ENSEMBL[at] + ".2" if at % 2 else name for at, name in enumerate(SYMBOLS)],
    ],
    ids=lambda names: names[0],
)
def test_every_way_to_name_genes_matches_as_the_plain_names_do(names: list[str]) -> None:
    found, clean = match(names, panel=BOTH), match(SYMBOLS, panel=BOTH)
    assert found.positions == clean.positions == tuple(range(len(SYMBOLS)))
    assert found.expected_expression_covered == clean.expected_expression_covered
    assert not found.species_differ


@pytest.mark.parametrize(
    "changed",
    [
        tuple(f"hg19_{name}" for name in SYMBOLS),
        tuple(f"{name}.4" for name in ENSEMBL),
    ],
)
def test_it_may_be_the_reference_that_names_them_so(changed: tuple[str, ...]) -> None:
    plain = ENSEMBL if changed[0].startswith("ENSG") else SYMBOLS
    panel = Genes(ids=changed)
    assert match(plain, panel=panel).n_matched == len(SYMBOLS)
    assert match(changed, panel=panel).matched_as == {"exact": len(SYMBOLS)}


def test_any_column_of_var_will_do_and_all_are_told() -> None:
    numbers = [str(at) for at in range(len(SYMBOLS))]
    found = match({"index": numbers, "gene_ids": ENSEMBL, "feature_name": SYMBOLS})
    assert (found.query_column, found.n_matched) == ("feature_name", len(SYMBOLS))
    told = [(each.query_column, each.kind, each.n_matched) for each in found.columns_tried]
    assert told == [
        ("index", "numbers", 0),
        ("gene_ids", "ensembl", 0),
        ("feature_name", "symbols", len(SYMBOLS)),
    ]


def test_the_column_that_covers_more_expression_wins_over_the_one_with_more_genes() -> None:
    panel = Genes(ids=("A", "B", "C"))
    query = QueryGenes.of({"index": ["A", "x", "y"], "names": ["x", "B", "C"]})
    assert match_genes(query, panel.panel, [0.8, 0.1, 0.1]).query_column == "index"
    assert match_genes(query, panel.panel, [0.2, 0.4, 0.4]).query_column == "names"


def test_a_version_is_none_where_it_belongs_to_the_name() -> None:
    panel = Genes(ids=("AL627309.1", "ENSG00000182378", "RP11-431K24.1"))
    assert match(["AL627309.2", "AL627309", "RP11-431K24.4"], panel=panel).n_matched == 0
    assert match(["ENSG00000182378_PAR_Y", "ENSG00000182378.15_PAR_Y"], panel=panel).n_matched == 0
    male = Genes(ids=("ENSG00000182378", "ENSG00000182378_PAR_Y"))
    found = match(["ENSG00000182378.15_PAR_Y", "ENSG00000182378.15"], panel=male)
    assert found.positions == (1, 0)


@pytest.mark.parametrize("join", ["-", "."])
def test_a_repeat_that_was_made_unique_is_added_to_its_stem(join: str) -> None:
    query = ["CD3D", f"CD3D{join}1", f"CD3D{join}2", "NKX2-1", f"LYZ{join}1"]
    found = match(query)
    # LYZ itself is not in the query, so LYZ-1 may be a name of its own; NKX2-1 is one.
    assert found.positions == (0, 0, 0, 2, -1)
    assert found.matched_as == {"exact": 2, "made-unique": 2}
    versioned = match([f"{ENSEMBL[0]}.5", f"{ENSEMBL[0]}.5{join}1"], panel=BOTH)
    assert versioned.positions == (0, 0)


def test_another_spelling_gives_way_to_the_name_itself() -> None:
    panel = Genes(ids=("CD3D", "LYZ"))
    assert match(["cd3d", "CD3D", "lyz"], panel=panel).positions == (-1, 0, 1)
    twice = Genes(ids=("HLA-A", "HLA.A"))
    assert match(["hla-a"], panel=twice).n_matched == 0


def test_mouse_symbols_are_no_spelling_of_human_ones() -> None:
    found = match(MOUSE)
    assert found.n_matched == 0
    assert found.species_differ
    assert (found.query_species, found.reference_species) == (("mouse",), ("human",))
    few = match(["Cd3d", "Lyz"])
    assert (few.n_matched, few.species_differ) == (0, False)
    back = match(SYMBOLS, panel=Genes(ids=MOUSE))
    assert (back.n_matched, back.species_differ) == (0, True)


def test_mouse_symbols_match_a_mouse_reference() -> None:
    panel = Genes(ids=MOUSE)
    assert match(MOUSE, panel=panel).matched_as == {"exact": len(MOUSE)}
    assert match([f"mm10___{name}" for name in MOUSE], panel=panel).n_matched == len(MOUSE)
    assert match([name.lower() for name in MOUSE], panel=panel).n_matched == len(MOUSE)


def test_mouse_symbols_in_capitals_are_known_by_those_that_only_mice_have() -> None:
    query = [name.upper() for name in MOUSE] + [f"GM{at}" for at in range(1000, 1010)]
    assert match(query).species_differ
    panel = Genes(ids=(*MOUSE, *(f"Gm{at}" for at in range(1000, 1010))))
    found = match(query, panel=panel)
    assert (found.n_matched, found.species_differ) == (len(panel.ids), False)


def test_species_by_identifier() -> None:
    mouse = [f"ENSMUSG{at:011d}.2" for at in range(5)]
    found = match(mouse, panel=Genes(ids=ENSEMBL))
    assert (found.query_species, found.reference_species) == (("mouse",), ("human",))
    assert found.species_differ
    # Identifiers are surer than spellings: these are human symbols, written by a stranger.
    titled = {"index": [name.title() for name in SYMBOLS], "gene_ids": ENSEMBL}
    found = match(titled)
    assert found.n_matched == len(SYMBOLS)
    assert found.query_species == ("human",)


def test_the_manifest_tells_the_species_where_names_do_not() -> None:
    query = QueryGenes.of({"index": [f"ENSMUSG{at:011d}" for at in range(5)]})
    panel = Genes(ids=("A", "B"))
    human = declared_species("Homo sapiens")
    assert match_genes(query, panel.panel, [0.5, 0.5], human).species_differ
    assert not match_genes(
        query, panel.panel, [0.5, 0.5], declared_species("martian")
    ).species_differ


def test_of_two_species_in_one_file_each_meets_its_own_reference() -> None:
    query = [f"GRCh38_{name}" for name in SYMBOLS] + [f"mm10___{name}" for name in MOUSE]
    # A mouse gene that is spelt as in humans stays a mouse's.
    query.append("mm10___CD3D")
    human, mouse = match(query), match(query, panel=Genes(ids=MOUSE))
    assert human.positions == (*range(len(SYMBOLS)), *[-1] * len(MOUSE), -1)
    assert mouse.positions[len(SYMBOLS) : -1] == tuple(range(len(MOUSE)))
    assert set(mouse.positions[: len(SYMBOLS)]) == {-1}
    assert not human.species_differ
    assert not mouse.species_differ
    assert set(human.query_species) == {"human", "mouse"}


def test_features_that_are_no_genes_never_match() -> None:
    types = ["Gene Expression", "Antibody Capture", "Antibody Capture"]
    found = match(["LYZ", "CD3D", "CD14"], types=types)
    assert found.positions == (1, -1, -1)
    assert kinds_of(["Peaks", "ATAC ", "Antibody Capture"]) == ["region", "region", "protein"]
    assert kinds_of(["gene", "", "Peaks", "CRISPR Guide Capture"]) == [
        "gene",
        "gene",
        "region",
        None,
    ]
    assert kinds_of(["protein_coding", "lncRNA", ""]) == ["gene"] * 3


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ENSG00000188290.3", "ensembl"),
        ("ENSMUST00000103301", "transcripts"),
        ("NM_001005484.1", "transcripts"),
        ("1007", "numbers"),
        ("chr1:10-20", "symbols"),
        ("chr1:10000-20000", "intervals"),
        ("hs37d5-35412204-35412447", "intervals"),
        ("RP11-431K24.1", "symbols"),
        ("NKX2-1", "symbols"),
        ("1700001C02Rik", "symbols"),
        ("???", "other"),
    ],
)
def test_kinds_of_names(name: str, kind: str) -> None:
    assert kind_of_name(name) == kind


def test_plain_names() -> None:
    assert plain_names("  hg19_AL627309.1 ") == ("AL627309.1",)
    assert plain_names("hg19_") == ("hg19_",)
    assert plain_names("ENSA") == ("ENSA",)
    assert plain_names("ENSG00000188290.10_HES4") == ("ENSG00000188290", "HES4")


def test_names_that_repeat_without_end_take_no_time() -> None:
    column = GeneColumn(["Gene"] * 50_000 + ["a-1"] * 50_000 + ["a"])
    assert len(column.plain) == 3
    found = match(column.names, panel=Genes(ids=("GENE", "a")))
    assert found.n_matched == 1
