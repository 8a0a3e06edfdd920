"""Every configuration of totalVI against scvi-tools 1.4.2, within the limits of `measure`."""

from __future__ import annotations

import pytest

from .measure import failures
from .totalvi_measure import compare_query, compare_reference
from .totalvi_oracle import TOTALVI_CONFIGURATIONS

pytestmark = [
    pytest.mark.parity,
    # scvi-tools, lightning and anndata warn of their own business, on import and in training.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("name", TOTALVI_CONFIGURATIONS)
def test_reference(name: str) -> None:
    errors = compare_reference(name)
    assert len(errors) >= 16
    assert failures(errors) == [], errors


@pytest.mark.parametrize("name", TOTALVI_CONFIGURATIONS)
def test_query_after_surgery(name: str) -> None:
    errors = compare_query(name)
    assert len(errors) == 17
    assert failures(errors) == [], errors
