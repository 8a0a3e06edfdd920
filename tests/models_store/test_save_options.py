"""What the options of a save become: its architecture, or a sentence that says which is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from models_store.architecture import Architecture
from models_store.scvi_saves import InconsistentSave
from models_store.scvi_weights import ARCHITECTURES, KINDS
from tests.models_store.given_saves import save_of

FEATURES: dict[str, dict[str, Any]] = {
    "MULTIVI": {"regions": tuple(f"r{i}" for i in range(50)), "proteins": ("p0",)},
    "TOTALVI": {"proteins": ("p0", "p1")},
}


def read(kind: str, **options: Any) -> Architecture:
    save = save_of(kind, options, n_genes=30, **FEATURES.get(kind, {}))
    return ARCHITECTURES[KINDS[kind]](save)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["n_hidden", "n_latent"])
@pytest.mark.parametrize("value", [-3, 2.5, "wide", [4], 10**9])
def test_a_size_that_is_none_is_told_by_its_name(kind: str, name: str, value: Any) -> None:
    with pytest.raises(InconsistentSave, match=f"its option {name} is out of range"):
        read(kind, **{name: value})


@pytest.mark.parametrize("kind", ["PEAKVI", "MULTIVI"])
def test_sizes_that_nobody_chose_are_roots(kind: str) -> None:
    n_hidden = {"PEAKVI": 5, "MULTIVI": 7}[kind]
    assert (read(kind).n_hidden, read(kind).n_latent) == (n_hidden, 2)
    assert read(kind, n_hidden=16).n_latent == 4
    assert read(kind, n_latent=3).n_hidden == n_hidden


def test_options_have_our_names() -> None:
    found = read(
        "TOTALVI", n_layers_encoder=3, dropout_rate_encoder=0.3, dropout_rate_decoder=0.4,
        gene_dispersion="gene-batch", gene_likelihood="zinb", use_batch_norm="none",
        use_layer_norm="both", use_observed_lib_size=False,
    )  # fmt: skip
    assert (found.n_layers, found.dropout_rate, found.decoder_dropout_rate) == (3, 0.3, 0.4)
    assert (found.dispersion, found.likelihood, found.library) == ("gene-batch", "zinb", "latent")
    assert (found.batch_norm, found.layer_norm, found.n_layers_decoder) == ("none", "both", 1)


def test_missing_proteins_that_a_save_overrides_are_no_matter_of_a_query() -> None:
    """Decision 0072: what a query was measured for is told by its cells, whatever the save says."""
    assert read("TOTALVI", override_missing_proteins=True) == read("TOTALVI")
