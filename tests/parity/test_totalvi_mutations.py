"""The formulas of totalVI broken on purpose: each is caught."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from models_store import (
    conditional_outputs,
    protein_likelihood,
    protein_tables,
    total_gradients,
    totalvi,
)

from .measure import failures
from .mutations import Mutation, Patch, assert_caught
from .totalvi_measure import compare_query, compare_reference

pytestmark = [
    pytest.mark.parity,
    # scvi-tools, lightning and anndata warn of their own business, on import and in training.
    pytest.mark.filterwarnings("ignore"),
]

RECOMMENDED = "TOTALVI: recommended"
DEFAULTS = "TOTALVI: scvi-tools' own defaults, proteins missing on both sides"
PANELS = "TOTALVI: panels, protein-batch dispersion, proteins missing"


def _given(patch: Patch, **changed: Any) -> None:
    """The proteins with something else beside them."""
    original = protein_tables.ProteinTables.counts

    def counts(self: protein_tables.ProteinTables, *args: Any) -> protein_likelihood.ProteinCounts:
        return dataclasses.replace(original(self, *args), **changed)

    patch.setattr(protein_tables.ProteinTables, "counts", counts)


def proteins_are_caught_alike_in_all_batches(patch: Patch) -> None:
    _given(patch, log_efficiency=torch.zeros(1))


def missing_proteins_count(patch: Patch) -> None:
    _given(patch, measured=None)


def the_sd_of_a_background_is_an_exponential(patch: Patch) -> None:
    patch.setattr(protein_likelihood, "softplus", torch.exp)


def the_foreground_may_be_below_the_background(patch: Patch) -> None:
    patch.setattr(protein_likelihood, "foreground_scale", lambda out: 1 + out.foreground)


def background_and_foreground_change_places(patch: Patch) -> None:
    original = protein_likelihood.log_mixture

    def changed(y: Tensor, back: Tensor, fore: Tensor, theta: Tensor, mixing: Tensor) -> Tensor:
        return original(y, fore, back, theta, mixing)

    patch.setattr(protein_likelihood, "log_mixture", changed)


def the_probability_is_that_of_the_background(patch: Patch) -> None:
    original = totalvi.TOTALVI.protein_foreground

    def changed(self: totalvi.TOTALVI, *args: Any) -> totalvi.Foreground:
        found = original(self, *args)
        return dataclasses.replace(found, probability=1 - found.probability)

    patch.setattr(totalvi.TOTALVI, "protein_foreground", changed)


def no_pull_towards_background(patch: Patch) -> None:
    patch.setattr(protein_likelihood, "EXPRESSED_WEIGHT", 0.0)


def genes_and_proteins_share_one_mean(patch: Patch) -> None:
    original = totalvi.TOTALVI.split

    def split(self: totalvi.TOTALVI, x: Tensor) -> tuple[Tensor, ...]:
        genes, proteins = original(self, x)
        # As `project` sees them: the library is of the genes all the same.
        mean = x.mean(1, keepdim=True)
        return genes * (1 + genes.mean(1, keepdim=True)) / (1 + mean), proteins

    patch.setattr(totalvi.TOTALVI, "split", split)


def proteins_count_in_full_from_the_start(patch: Patch) -> None:
    original = totalvi.ProteinLossTerms.loss
    patch.setattr(
        totalvi.ProteinLossTerms,
        "loss",
        lambda self, w: original(dataclasses.replace(self, weighted=False), w),
    )


def backgrounds_are_by_batch(patch: Patch) -> None:
    patch.setattr(protein_tables.ProteinTables, "_panel", lambda self, cells: cells.codes[0] * 0)


def rows_of_outputs_learn_half(patch: Patch) -> None:
    original = conditional_outputs.ConditionalOutput.sums
    patch.setattr(
        conditional_outputs.ConditionalOutput,
        "sums",
        lambda self, *args: [total / 2 for total in original(self, *args)],
    )


def outputs_do_not_see_z(patch: Patch) -> None:
    original = total_gradients.BranchGradients.backward

    def backward(self: total_gradients.BranchGradients, g: Tensor, *rest: Any) -> Tensor:
        g = g.clone()
        g[:, self.n_hidden :] = 0
        return original(self, g, *rest)

    patch.setattr(total_gradients.BranchGradients, "backward", backward)


REFERENCE_MUTATIONS: list[tuple[Mutation, str, str]] = [
    (proteins_are_caught_alike_in_all_batches, RECOMMENDED, "proteins"),
    (missing_proteins_count, DEFAULTS, "proteins"),
    (missing_proteins_count, DEFAULTS, "KL background"),
    (the_sd_of_a_background_is_an_exponential, RECOMMENDED, "KL background"),
    (the_foreground_may_be_below_the_background, RECOMMENDED, "proteins"),
    (background_and_foreground_change_places, RECOMMENDED, "proteins"),
    (the_probability_is_that_of_the_background, RECOMMENDED, "foreground probability"),
    (no_pull_towards_background, RECOMMENDED, "KL background"),
    (genes_and_proteins_share_one_mean, RECOMMENDED, "posterior mean"),
    (proteins_count_in_full_from_the_start, RECOMMENDED, "loss, w = 0.3"),
    (proteins_count_in_full_from_the_start, RECOMMENDED, "gradient"),
    (backgrounds_are_by_batch, PANELS, "KL background"),
]

QUERY_MUTATIONS: list[tuple[Mutation, str, str]] = [
    (missing_proteins_count, DEFAULTS, "way of the weights"),
    (rows_of_outputs_learn_half, RECOMMENDED, "way of the weights"),
    (outputs_do_not_see_z, RECOMMENDED, "way of the weights"),
    (no_pull_towards_background, DEFAULTS, "KL background"),
]


@pytest.mark.parametrize(("mutation", "name", "quantity"), REFERENCE_MUTATIONS)
def test_reference_catches(mutation: Mutation, name: str, quantity: str) -> None:
    assert_caught(mutation, compare_reference, failures, (name, quantity))


@pytest.mark.parametrize(("mutation", "name", "quantity"), QUERY_MUTATIONS)
def test_query_catches(mutation: Mutation, name: str, quantity: str) -> None:
    assert_caught(mutation, compare_query, failures, (name, quantity))
