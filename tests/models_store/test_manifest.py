"""The manifest: what it refuses, that it stays as it is, and how it meets a query's genes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models_store.manifest import Manifest
from models_store.recipe import RECIPES
from models_store.scvi import SCVI

from .manifests import IDS, fields, manifest

ARCHITECTURE = {"n_genes": 3}
GENE, TWO_REGIONS = {"kind": "gene", "count": 1}, {"kind": "region", "count": 2}
OF_REGIONS = {
    "architecture": {"n_genes": 0, "n_regions": 3},
    "genes": {"ids": IDS, "modalities": [{"kind": "region", "count": 3}]},
}
BY_LABEL = {
    "kind": "totalvi",
    "architecture": {"n_genes": 1, "n_proteins": 2, "protein_dispersion": "protein-label"},
    "genes": {"ids": IDS, "modalities": [GENE, {"kind": "protein", "count": 2}]},
}


def test_json_round_trip() -> None:
    whole = manifest(
        species="human",
        genes={"ids": IDS, "symbols": ("A", "B", "C"), "ensembl": IDS},
        extra_covariates=({"key": "plate", "categories": ("p", "q")},),
        continuous_covariates=("age",),
        labels=({"key": "cell_type", "categories": ("T",), "ontology_ids": (None,)},),
        self_test={
            "weights_load": True,
            "encoder_sees_batch": True,
            "padded_cells_map": True,
            "reference_reproduced": True,
            "n_cells_checked": 5,
        },
        files={"weights.safetensors": "0" * 64},
    )
    text = whole.model_dump_json()
    assert Manifest.model_validate_json(text) == whole
    assert Manifest.model_validate_json(text).model_dump_json() == text


@pytest.mark.parametrize("field", sorted(Manifest.model_fields))
def test_a_manifest_is_frozen(field: str) -> None:
    whole = manifest()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(whole, field, getattr(whole, field))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"surprise": 1}, "surprise"),
        ({"name": "PBMC"}, "name"),
        ({"name": "-pbmc"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "a" * 64}, "name"),
        ({"name": "pbmc\n"}, "name"),
        ({"version": 0}, "version"),
        ({"manifest_version": 2}, "manifest_version"),
        ({"kind": "velovi"}, "kind"),
        ({"kind": "totalvi"}, "needs features of kind gene, protein"),
        ({"architecture": {"n_genes": 0}}, "needs genes, regions or proteins"),
        ({"architecture": {"n_genes": 2, "n_regions": 1}}, "differ"),
        ({"kind": "peakvi", **OF_REGIONS, "genes": {"ids": IDS}}, "differ"),
        (OF_REGIONS, "features of kind gene alone"),
        ({"genes": {"ids": IDS, "modalities": [GENE]}}, "add up"),
        ({"genes": {"ids": IDS, "modalities": [TWO_REGIONS, GENE]}}, "order"),
        ({"architecture": {"n_genes": 4}}, "differ in length"),
        ({"expected_expression": (1.0,)}, "differ in length"),
        ({"architecture": ARCHITECTURE | {"dropout_rate": 1.0}}, "dropout_rate"),
        ({"architecture": ARCHITECTURE | {"n_layers": 0}}, "n_layers"),
        ({"architecture": ARCHITECTURE | {"likelihood": "gamma"}}, "likelihood"),
        ({"architecture": ARCHITECTURE | {"likelihood": "normal"}}, "continuous"),
        ({"input": "continuous"}, "continuous"),
        ({"genes": {"ids": ("A", "B", "A")}}, "lists a gene twice"),
        ({"genes": {"ids": IDS, "symbols": ("A",)}}, "length differs"),
        ({"genes": {"ids": IDS, "ensembl": ("A", "B", "C", "D")}}, "length differs"),
        ({"genes": {"ids": ()}}, "ids"),
        ({"architecture": ARCHITECTURE | {"dispersion": "gene-label"}}, "needs a label level"),
        (BY_LABEL, "needs a label level"),
        ({"batch": {"key": None, "categories": ()}}, "categories"),
        ({"batch": {"key": "b", "categories": ("x", "x")}}, "lists a category twice"),
        ({"files": {"weights.safetensors": "nothex"}}, "files"),
    ],
)
def test_a_wrong_manifest_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Manifest.model_validate(fields(**changes))


def test_normal_likelihood_goes_with_continuous_input() -> None:
    normal = manifest(architecture=ARCHITECTURE | {"likelihood": "normal"}, input="continuous")
    assert normal.input == "continuous"


def test_features_of_several_kinds() -> None:
    whole = manifest(
        kind="multivi",
        architecture={"n_genes": 1, "n_regions": 2},
        genes={"ids": ("CD3D", "CD3D", "chr1:1-2"), "modalities": [GENE, TWO_REGIONS]},
    )
    assert whole.genes.counts() == whole.architecture.counts()
    assert whole.genes.slices() == {
        "gene": slice(0, 1),
        "region": slice(1, 3),
        "protein": slice(3, 3),
    }
    assert manifest(kind="peakvi", **OF_REGIONS).architecture.n_features == 3
    assert manifest().genes.counts() == {"gene": 3, "region": 0, "protein": 0}


def test_recipes() -> None:
    own = RECIPES["default"].model_copy(update={"penalty": 3.0})
    whole = manifest(default_recipe=own)
    assert whole.recipe("default") == own
    assert whole.recipe("forward").max_epochs == 0
    assert whole.recipe("scvi-tools").start == "random"
    assert all(recipe.name == name for name, recipe in RECIPES.items())


def test_surgery_has_effect_where_the_encoder_sees_covariates() -> None:
    assert manifest().surgery_has_effect
    assert not manifest(architecture=ARCHITECTURE | {"encode_covariates": False}).surgery_has_effect


def test_the_network_of_a_manifest() -> None:
    network = SCVI.of(
        manifest(
            architecture=ARCHITECTURE | {"dispersion": "gene-label"},
            extra_covariates=({"key": "plate", "categories": ("p", "q", "r")},),
            continuous_covariates=("age", "dose"),
            labels=({"key": "cell_type", "categories": ("B", "T")},),
        )
    )
    first = network.z_encoder.layers.linears[0]
    assert first.W_x.shape == (3 + 2, 128)
    assert [len(rows.reference) for rows in first.covariate_rows()] == [2, 3]
    assert network.dispersion.reference.shape == (2, 3)
    assert network.library_prior.shape == (2, 2)


SYMBOLS = ("A", "B", "C")
BOTH = {"ids": IDS, "symbols": SYMBOLS, "ensembl": ("E1", "E2", "E3")}


@pytest.mark.parametrize(
    ("kind", "names"), [("ids", IDS), ("symbols", SYMBOLS), ("ensembl", BOTH["ensembl"])]
)
def test_genes_match_in_every_kind(kind: str, names: tuple[str, ...]) -> None:
    query = {"index": ["x", "y", "z"], "names": [names[2], "other", names[0]]}
    match = manifest(genes=BOTH).match_genes(query)
    assert (match.query_column, match.reference_column) == ("names", kind)
    assert match.positions == (2, -1, 0)
    assert (match.n_matched, match.n_panel) == (2, 3)
    assert match.expected_expression_covered == pytest.approx(0.7)


def test_ties_go_to_the_index_and_to_ids() -> None:
    same = manifest(genes={"ids": IDS, "symbols": IDS})
    match = same.match_genes({"index": list(IDS), "gene_ids": list(IDS)})
    assert (match.query_column, match.reference_column) == ("index", "ids")
    nothing = same.match_genes({"index": ["x"], "gene_ids": ["y"]})
    assert (nothing.query_column, nothing.n_matched) == ("index", 0)
    assert nothing.expected_expression_covered == 0


def test_more_matches_win_over_the_index() -> None:
    match = manifest(genes=BOTH).match_genes(
        {"index": ["A", "x", "y"], "gene_ids": ["E1", "E2", "z"]}
    )
    assert (match.query_column, match.reference_column, match.n_matched) == (
        "gene_ids",
        "ensembl",
        2,
    )


def test_a_gene_named_twice_counts_once() -> None:
    match = manifest().match_genes({"index": ["ENSG2", "ENSG2", "ENSG3"]})
    assert match.positions == (1, 1, 2)
    assert match.n_matched == 2
    assert match.expected_expression_covered == pytest.approx(0.5)


def test_a_symbol_that_the_panel_has_twice_means_the_first() -> None:
    twice = manifest(genes={"ids": IDS, "symbols": ("A", "B", "A")})
    assert twice.match_genes({"index": ["A", "B"]}).positions == (0, 1)


def test_genes_without_a_name_match_nothing() -> None:
    unnamed = manifest(genes={"ids": IDS, "symbols": ("A", "", "")})
    match = unnamed.match_genes({"index": ["", "A", ""]})
    assert match.positions == (-1, 0, -1)
    assert match.n_matched == 1
    # An empty name is no reason to prefer a column.
    match = unnamed.match_genes({"index": ["ENSG1"], "symbols": [""]})
    assert (match.query_column, match.reference_column) == ("index", "ids")


def test_names_need_not_match_exactly() -> None:
    match = manifest().match_genes({"index": ["ensg1", "ENSG2 ", "ENSG3.1"]})
    assert match.positions == (0, 1, 2)


def test_a_query_without_gene_names_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one column"):
        manifest().match_genes({})


@given(st.lists(st.sampled_from([*IDS, "x", "y", ""]), max_size=8))
def test_positions_point_at_the_same_name(names: list[str]) -> None:
    match = manifest().match_genes({"index": names})
    assert len(match.positions) == len(names)
    for name, position in zip(names, match.positions, strict=True):
        assert (position == -1) == (name not in IDS)
        assert position == -1 or IDS[position] == name
    assert match.n_matched == len(set(names) & set(IDS))
