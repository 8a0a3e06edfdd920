"""MULTIVI's numbers against scvi-tools 1.4.2, within the limits of `multivi_measure`."""

from __future__ import annotations

import pytest
import torch

from models_store.surgery import query_parameters

from .multivi_configurations import CONFIGURATIONS
from .multivi_measure import LIMITS, compare_query, compare_reference, failures
from .multivi_oracle import build

pytestmark = [
    pytest.mark.parity,
    # scvi-tools, lightning and anndata warn of their own business, on import and in training.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_reference(name: str) -> None:
    errors = compare_reference(name)
    assert not failures(errors), errors


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_query_after_surgery(name: str) -> None:
    errors = compare_query(name)
    assert not failures(errors), errors


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_trains_is_what_the_masks_say(name: str) -> None:
    """Every number that trains here trains there, and no other."""
    case = build(name)
    ours = sum(p.numel() for p in query_parameters(case.query.network).values())
    assert ours == sum(int(mask.sum()) for mask in case.trains.values())


def test_every_quantity_is_measured() -> None:
    measured = {
        q for name in CONFIGURATIONS for q in (*compare_reference(name), *compare_query(name))
    }
    assert measured == set(LIMITS)


def test_unpaired_cells_are_among_them() -> None:
    name = "MULTIVI: genes, regions, proteins, unpaired, encoded, deep"
    present = build(name).query.network.project(build(name).query.cells).log_library
    assert {tuple(row) for row in present.tolist()} >= {(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0)}
    assert torch.isfinite(present).all()
