"""The formulas of PEAKVI and POISSONVI broken on purpose: each is caught."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models_store import (
    block_kernels,
    coders,
    hidden_gradients,
    layers,
    peak_gradients,
    peakvi,
    poissonvi,
    region_head,
    regions,
)

from .measure import compare_query, compare_reference, failures
from .mutations import Mutation, Patch, assert_caught

pytestmark = [
    pytest.mark.parity,
    # scvi-tools, lightning and anndata warn of their own business, on import and in training.
    pytest.mark.filterwarnings("ignore"),
]

PEAKVI = "PEAKVI: covariates encoded, and in every layer"
POISSONVI = "POISSONVI: covariates encoded"


def activations_do_not_leak(patch: Patch) -> None:
    original = layers.Block.forward
    patch.setattr(layers.Block, "forward", lambda self, y: torch.relu(original(self, y)))


def variance_with_a_floor(patch: Patch) -> None:
    original = coders.Encoder.forward

    def forward(self: coders.Encoder, projection: Tensor, codes: layers.Codes) -> coders.Posterior:
        found = original(self, projection, codes)
        return dataclasses.replace(found, v=found.v + coders.VARIANCE_EPS)

    patch.setattr(coders.Encoder, "forward", forward)


def every_region_seen_often_is_more_open(patch: Patch) -> None:
    def by_count(x: Tensor, out: regions.Openness) -> Tensor:
        y, seen = out.probability(), x / (1 + x)
        return torch.nn.functional.binary_cross_entropy(y, seen, reduction="none").sum(-1)

    patch.setattr(peakvi, "negative_log_bernoulli", by_count)


def cells_are_equally_deep(patch: Patch) -> None:
    patch.setattr(peakvi.PEAKVI, "depth", lambda self, projection, codes: None)


def regions_have_no_factors(patch: Patch) -> None:
    def openness(logits: Tensor, depth: Tensor | None, _factors: Tensor | None) -> regions.Openness:
        return regions.Openness(logits, depth, None)

    patch.setattr(peakvi, "Openness", openness)


def accessibility_with_factors(patch: Patch) -> None:
    original = peakvi.PEAKVI.accessibility

    def accessibility(self: peakvi.PEAKVI, *args: Any, **more: Any) -> Tensor:
        assert self.region_factors is not None
        return original(self, *args, **more) * torch.sigmoid(self.region_factors)

    patch.setattr(peakvi.PEAKVI, "accessibility", accessibility)


def accessibility_as_expected_shares(patch: Patch) -> None:
    patch.setattr(
        poissonvi.POISSONVI,
        "accessibility",
        lambda self, z, codes, continuous: self.expected_shares(z, codes),
    )


def _scaled(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def changed(x: Any, logits: Any, *rest: Any) -> Tensor:
        total = original(x, logits, *rest)
        logits.product.mul_(1.001)
        return total

    return changed


def slope_of_p_a_thousandth_too_large(patch: Patch) -> None:
    for module in (regions, region_head):
        patch.setattr(module, "fused_region_gradient", _scaled(module.fused_region_gradient))


def slope_of_the_depth_forgotten(patch: Patch) -> None:
    original = peak_gradients.DepthGradients.backward
    patch.setattr(
        peak_gradients.DepthGradients,
        "backward",
        lambda self, g, codes, found: original(self, 0 * g, codes, found),
    )


def way_back_does_not_leak(patch: Patch) -> None:
    original = block_kernels.block_backward

    def backward(g: Tensor, passed: Any, affine: Any, **block: Any) -> tuple[Tensor, Tensor]:
        return original(g, passed, affine, **block | {"leak": 0.0})

    patch.setattr(hidden_gradients, "block_backward", backward)


REFERENCE_MUTATIONS: list[tuple[Mutation, str, str]] = [
    (activations_do_not_leak, PEAKVI, "posterior mean"),
    (activations_do_not_leak, POISSONVI, "posterior mean"),
    (variance_with_a_floor, PEAKVI, "posterior variance"),
    (every_region_seen_often_is_more_open, PEAKVI, "reconstruction"),
    (cells_are_equally_deep, PEAKVI, "reconstruction"),
    (regions_have_no_factors, PEAKVI, "reconstruction"),
    (accessibility_with_factors, PEAKVI, "accessibility"),
    (accessibility_as_expected_shares, POISSONVI, "accessibility"),
    (slope_of_p_a_thousandth_too_large, PEAKVI, "gradient in training mode"),
]

QUERY_MUTATIONS: list[tuple[Mutation, str, str]] = [
    (slope_of_p_a_thousandth_too_large, PEAKVI, "way of the weights"),
    (slope_of_the_depth_forgotten, PEAKVI, "way of the weights"),
    (way_back_does_not_leak, PEAKVI, "way of the weights"),
    (way_back_does_not_leak, POISSONVI, "way of the weights"),
]


@pytest.mark.parametrize(("mutation", "name", "quantity"), REFERENCE_MUTATIONS)
def test_reference_catches(mutation: Mutation, name: str, quantity: str) -> None:
    assert_caught(mutation, compare_reference, failures, (name, quantity))


@pytest.mark.parametrize(("mutation", "name", "quantity"), QUERY_MUTATIONS)
def test_query_catches(mutation: Mutation, name: str, quantity: str) -> None:
    assert_caught(mutation, compare_query, failures, (name, quantity))
