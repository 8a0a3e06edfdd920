"""Every configuration's numbers against scvi-tools 1.4.2, within the limits of `measure`."""

from __future__ import annotations

from typing import Literal, get_args, get_origin

import pytest
import torch

from models_store.manifest import Architecture
from models_store.scanvi import SCANVI

from .configurations import CONFIGURATIONS
from .errors import error, worst
from .measure import LIMITS, compare_query, compare_reference, failures
from .oracle import LABELS, build
from .totalvi_oracle import TOTALVI_CONFIGURATIONS

pytestmark = [
    pytest.mark.parity,
    # scvi-tools, lightning and anndata warn of their own business, on import and in training.
    pytest.mark.filterwarnings("ignore"),
]


OF_MULTIVI = {"modality_weights", "modality_penalty", "depth_factor"}
"""Options with tests of their own."""


def _more(name: str) -> int:
    """Quantities beyond those of SCVI.

    SCANVI has two of labels, and does not tell the library's KL apart. Kinds of regions have their
    accessibility; PEAKVI has no library.
    """
    c = CONFIGURATIONS[name]
    if c.kind == "scanvi":
        return 1
    return c.of_regions - (c.kind == "peakvi")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_reference(name: str) -> None:
    errors = compare_reference(name)
    assert len(errors) >= 11 + _more(name)
    assert failures(errors) == [], errors


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_query_after_surgery(name: str) -> None:
    errors = compare_query(name)
    assert len(errors) == 12 + _more(name)
    assert failures(errors) == [], errors


@torch.no_grad()
def test_a_classifier_with_softmax_inside_gives_the_same_probabilities() -> None:
    """As scvi-tools' files before 1.1 have it: the weights are those of the last linear layer."""
    from scvi.module import Classifier

    case = build("SCANVI: recommended")
    side, a = case.reference, case.configuration.architecture
    old = Classifier(
        a.n_latent,
        n_hidden=a.n_hidden,
        n_labels=len(LABELS),
        n_layers=a.n_layers,
        logits=False,
        use_batch_norm=False,
        use_layer_norm=True,
    ).eval()
    old.load_state_dict(side.module.classifier.state_dict())
    network = side.network
    assert isinstance(network, SCANVI)
    m = network.posterior(network.project(side.cells), side.cells.codes).m
    assert error(network.label_probabilities(m), old(m)) < LIMITS["label probabilities"]


NOT_OF_THE_ORACLE = {("protein_efficiency", False), ("protein_dispersion", "protein-label")}
"""Maths of older saves; and what makes scvi-tools' TOTALVI fail at its first minibatch."""


def test_configurations_cover_every_option() -> None:
    every = (*CONFIGURATIONS.values(), *TOTALVI_CONFIGURATIONS.values())
    used = [c.architecture for c in every]
    for option, field in Architecture.model_fields.items():
        values = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if field.annotation is bool:
            values = (True, False)
        if option in OF_MULTIVI:
            continue
        asked = {value for value in values if (option, value) not in NOT_OF_THE_ORACLE}
        assert asked <= {getattr(a, option) for a in used}, option
    assert {1, 2, 3} <= {a.n_layers for a in used}
    assert {0, 1, 2} <= {len(c.extra) for c in CONFIGURATIONS.values()}
    assert {0, 2} <= {c.n_continuous for c in CONFIGURATIONS.values()}
    assert {1, 2} <= {len(c.reference_batches) for c in CONFIGURATIONS.values()}
    for kind in ("scvi", "scanvi", "peakvi", "poissonvi", "totalvi"):
        assert sum(c.kind == kind for c in every) >= 4, kind
    assert len(CONFIGURATIONS) >= 14


def test_nan_and_wrong_shapes_never_pass() -> None:
    nan, one = torch.tensor([1.0, float("nan")]), torch.ones(2)
    for errors in ([error(nan, one)], [error(one, nan)], [0.0, float("nan")]):
        assert worst(errors) == float("inf")
    assert error(one, torch.zeros(2)) == float("inf")
    assert failures({"posterior mean": float("nan")}) == ["posterior mean"]
    assert failures(dict.fromkeys(LIMITS, 1e-12)) == ["frozen weights"]
    with pytest.raises(AssertionError, match="against"):
        error(torch.ones(2, 2), one)
