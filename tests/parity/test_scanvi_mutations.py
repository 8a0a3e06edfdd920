"""The formulas of scANVI broken on purpose: each is caught."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models_store import layers, query_gradients, scanvi, scvi

from .measure import compare_query, compare_reference, failures
from .mutations import Mutation, Patch, assert_caught

pytestmark = [
    pytest.mark.parity,
    # scvi-tools, lightning and anndata warn of their own business, on import and in training.
    pytest.mark.filterwarnings("ignore"),
]


def variance_of_z1_taken_for_its_sd(patch: Patch) -> None:
    def surprise(self: scvi.Posterior, at: Tensor) -> Tensor:
        return -torch.distributions.Normal(self.m, self.v).log_prob(at).sum(-1)

    patch.setattr(scvi.Posterior, "surprise", surprise)


def labels_count_alike(patch: Patch) -> None:
    patch.setattr(scanvi, "log_softmax", lambda logits, dim: torch.log_softmax(0 * logits, dim))


def labels_have_no_prior(patch: Patch) -> None:
    original = scanvi.SCANVI.label_terms

    def label_terms(self: scanvi.SCANVI, z1: Tensor, noise: Tensor) -> scanvi.LabelTerms:
        found = original(self, z1, noise)
        p = self.label_probabilities(z1)
        return dataclasses.replace(found, kl=found.kl + (p * self.y_prior.log()).sum(-1))

    patch.setattr(scanvi.SCANVI, "label_terms", label_terms)


def no_entropy_of_z1(patch: Patch) -> None:
    original = scanvi.SCANVI.terms

    def terms(self: scanvi.SCANVI, cells: object, made: scvi.Generated, *rest: object) -> object:
        found = original(self, cells, made, *rest)
        added = made.q_z.surprise(made.z)
        return dataclasses.replace(found, reconstruction=found.reconstruction + added)

    patch.setattr(scanvi.SCANVI, "terms", terms)


def the_drawn_z1_is_classified(patch: Patch) -> None:
    """The cross-entropy is that of the posterior mean."""
    original = scanvi.SCANVI.terms

    def terms(
        self: scanvi.SCANVI, cells: scvi.Cells, made: scvi.Generated, *rest: object
    ) -> object:
        found = original(self, cells, made, *rest)
        return dataclasses.replace(found, classification=self.classification(made.z, cells.labels))

    patch.setattr(scanvi.SCANVI, "terms", terms)


def half_the_weight_of_the_cross_entropy(patch: Patch) -> None:
    patch.setattr(scanvi, "CLASSIFICATION_RATIO", 25.0)


def library_kl_of_scanvi_is_not_warmed_up(patch: Patch) -> None:
    def loss(self: scanvi.LabelledLossTerms, weight: float) -> Tensor:
        return scvi.LossTerms.loss(self, weight) + 50 * self.classification

    patch.setattr(scanvi.LabelledLossTerms, "loss", loss)


def labels_enter_the_first_layer_alone(patch: Patch) -> None:
    original = layers.ConditionalLinear.add_covariates

    def first_only(
        self: layers.ConditionalLinear, expression: Tensor, codes: layers.Codes
    ) -> Tensor:
        deep = self.W_x.shape[0] == self.W_x.shape[1]
        of_labels = len(list(self.covariate_rows())) == 1 and len(codes) == 1
        return original(self, expression, () if deep and of_labels else codes)

    patch.setattr(layers.ConditionalLinear, "add_covariates", first_only)


def probabilities_of_each_label_by_itself(patch: Patch) -> None:
    patch.setattr(
        scanvi.SCANVI, "label_probabilities", lambda self, m: self.classifier(m).sigmoid()
    )


def _label_gradients(patch: Patch, change: Callable[..., tuple[Tensor, Tensor]]) -> None:
    original = scanvi.SCANVI.label_gradients

    def changed(self: scanvi.SCANVI, *args: object) -> tuple[Tensor, Tensor]:
        return change(*original(self, *args))

    patch.setattr(scanvi.SCANVI, "label_gradients", changed)


def known_labels_teach_nothing(patch: Patch) -> None:
    _label_gradients(patch, lambda g_z1, g_m: (g_z1, torch.zeros_like(g_m)))


def unknown_labels_teach_nothing(patch: Patch) -> None:
    _label_gradients(patch, lambda g_z1, g_m: (torch.zeros_like(g_z1), g_m))


def z1_has_a_standard_prior(patch: Patch) -> None:
    original = query_gradients.QueryGradients.__init__

    def standard(self: query_gradients.QueryGradients, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        self.flat = torch.tensor([[0.0, 1.0]])

    patch.setattr(query_gradients.QueryGradients, "__init__", standard)


REFERENCE_MUTATIONS: list[tuple[Mutation, str, str]] = [
    (variance_of_z1_taken_for_its_sd, "SCANVI: recommended", "reconstruction"),
    (labels_count_alike, "SCANVI: recommended", "reconstruction"),
    (labels_have_no_prior, "SCANVI: recommended", "KL z"),
    (no_entropy_of_z1, "SCANVI: recommended", "reconstruction"),
    (the_drawn_z1_is_classified, "SCANVI: linear classifier", "cross-entropy"),
    (half_the_weight_of_the_cross_entropy, "SCANVI: recommended", "loss, w = 0"),
    (library_kl_of_scanvi_is_not_warmed_up, "SCANVI: latent library", "loss, w = 0.3"),
    (labels_enter_the_first_layer_alone, "SCANVI: batch norm in both", "KL z"),
    (probabilities_of_each_label_by_itself, "SCANVI: recommended", "label probabilities"),
]

QUERY_MUTATIONS: list[tuple[Mutation, str, str]] = [
    (known_labels_teach_nothing, "SCANVI: recommended", "way of the weights"),
    (unknown_labels_teach_nothing, "SCANVI: one extra covariate", "way of the weights"),
    (z1_has_a_standard_prior, "SCANVI: latent library", "way of the weights"),
    (half_the_weight_of_the_cross_entropy, "SCANVI: recommended", "way of the weights"),
]


@pytest.mark.parametrize(("mutation", "name", "quantity"), REFERENCE_MUTATIONS)
def test_reference_catches(mutation: Mutation, name: str, quantity: str) -> None:
    assert_caught(mutation, compare_reference, failures, (name, quantity))


@pytest.mark.parametrize(("mutation", "name", "quantity"), QUERY_MUTATIONS)
def test_query_catches(mutation: Mutation, name: str, quantity: str) -> None:
    assert_caught(mutation, compare_query, failures, (name, quantity))
