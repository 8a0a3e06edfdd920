"""Every option that scvi-tools 1.4.2's classes take is read from a save, or refused by its name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Set
from typing import Any

import pytest

from models_store import multivi_options, region_options, scvi_options, totalvi_options
from models_store.scvi_saves import Save, UnsupportedSave
from models_store.scvi_weights import ARCHITECTURES, KINDS
from tests.models_store.given_saves import save_of

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

OF_THE_DATA = {
    *("adata", "n_batch", "n_labels", "n_continuous_cov", "n_cats_per_cov", "n_panel"),
    *("n_input", "n_input_genes", "n_input_regions", "n_input_proteins"),
    *("library_log_means", "library_log_vars", "panel_key", "protein_batch_mask"),
    *("protein_background_prior_mean", "protein_background_prior_scale"),
}
"""What scvi-tools' classes give their modules themselves, from the data; no save has them."""
ELSEWHERE = {"MULTIVI": {"gene_dispersion"}, "SCANVI": {"classifier_parameters"}}
"""What a class gives its module under another name (`dispersion`, `linear_classifier`)."""
Known = tuple[Mapping[str, Any], Set[str]]
KNOWN: dict[str, Known] = {
    "SCVI": (scvi_options.DEFAULTS, scvi_options.WITHOUT_EFFECT),
    "SCANVI": (scvi_options.DEFAULTS, scvi_options.WITHOUT_EFFECT),
    "PEAKVI": (region_options.PEAK_DEFAULTS, scvi_options.WITHOUT_EFFECT),
    "POISSONVI": (region_options.POISSON_DEFAULTS, scvi_options.WITHOUT_EFFECT),
    "TOTALVI": (totalvi_options.DEFAULTS, totalvi_options.WITHOUT_EFFECT),
    "MULTIVI": (multivi_options.DEFAULTS, multivi_options.WITHOUT_EFFECT),
}


def classes(kind: str) -> tuple[type, type]:
    """The class of a kind and of its module."""
    import scvi
    from scvi.external import POISSONVI

    modules = {
        "SCANVI": scvi.module.SCANVAE,
        "PEAKVI": scvi.module.PEAKVAE,
        "TOTALVI": scvi.module.TOTALVAE,
        "MULTIVI": scvi.module.MULTIVAE,
    }
    model = POISSONVI if kind == "POISSONVI" else getattr(scvi.model, kind)
    return model, modules.get(kind, scvi.module.VAE)


def options_of(kind: str) -> set[str]:
    """The options that a person may set."""
    named = {
        name
        for each in classes(kind)
        for name, parameter in inspect.signature(each).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    return named - OF_THE_DATA - ELSEWHERE.get(kind, set())


def given(kind: str, **options: Any) -> Save:
    regions = ("r0",) if kind == "MULTIVI" else ()
    proteins = ("p0",) if kind in {"MULTIVI", "TOTALVI"} else ()
    return save_of(kind, options, n_genes=4, regions=regions, proteins=proteins)


@pytest.mark.parametrize("kind", KNOWN)
def test_every_option_is_read_or_refused(kind: str) -> None:
    defaults, without_effect = KNOWN[kind]
    strange = options_of(kind) - set(defaults) - set(without_effect)
    read = ARCHITECTURES[KINDS[kind]]
    read(given(kind))
    for name in strange:
        with pytest.raises(UnsupportedSave, match=name):
            read(given(kind, **{name: "a value of its own"}))
    assert len(set(defaults) & options_of(kind)) >= 7, "most options are read"


@pytest.mark.parametrize("kind", KNOWN)
def test_defaults_are_those_of_scvi_tools(kind: str) -> None:
    """Where a save leaves an option out, it was at the default of its class."""
    defaults, _ = KNOWN[kind]
    module, model = (inspect.signature(each).parameters for each in reversed(classes(kind)))
    for name in set(defaults) & options_of(kind):
        theirs = (model if name in model else module)[name].default
        ours = defaults[name]
        # SCANVI's own module may differ from what its class hands on to it.
        if theirs is not inspect.Parameter.empty:
            assert ours == theirs, name
