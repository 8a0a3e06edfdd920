"""The parity tests of MULTIVI can fail: formulas broken on purpose are caught."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from models_store import modalities, multivi, multivi_coders, multivi_gradients, protein_likelihood
from models_store.cells import Cells, Posterior, Projection
from models_store.head_gradients import HeadInput, SharedHead
from models_store.manifest import Architecture

from . import departures, multivi_measure, multivi_oracle
from .multivi_measure import compare_query, compare_reference, failures
from .mutations import Mutation, Patch, assert_caught

pytestmark = [
    pytest.mark.parity,
    # scvi-tools, lightning and anndata warn of their own business, on import and in training.
    pytest.mark.filterwarnings("ignore"),
]

TRIMODAL = "MULTIVI: genes, regions, proteins, unpaired, encoded, deep"
UNPAIRED = "MULTIVI: unpaired genes and regions, nb, first layer only"
LEARNT = "MULTIVI: learnt weights, MMD, one reference batch"
PLATES = "MULTIVI: no penalty, poisson, batch norm, no region factors, extra covariate"
SIZED = "MULTIVI: size factor and depth given, unpaired"
BY_BATCH = "MULTIVI: genes and proteins, both norms, other depths, continuous covariate"


def jeffreys_of_the_posteriors_themselves(patch: Patch) -> None:
    original = modalities._jeffreys

    def plain(p: Posterior, q: Posterior) -> Tensor:
        return original(Posterior(p.m, p.v**2), Posterior(q.m, q.v**2))

    patch.setattr(modalities, "_jeffreys", plain)


def mmd_squares_the_distance(patch: Patch) -> None:
    original = modalities._distance
    patch.setattr(modalities, "_distance", lambda p, q: original(p, q) ** 2)


def variances_are_mixed_as_means_are(patch: Patch) -> None:
    patch.setattr(
        multivi,
        "mix_posteriors",
        lambda each, weights, present: Posterior(
            modalities.mix_posteriors(each, weights, present).m,
            modalities.mix_posteriors([Posterior(p.v, p.v) for p in each], weights, present).m,
        ),
    )


def learnt_weights_count_alike(patch: Patch) -> None:
    original = modalities.modality_shares
    patch.setattr(modalities, "modality_shares", lambda w, has: original(torch.ones_like(w), has))


def every_modality_is_present(patch: Patch) -> None:
    patch.setattr(multivi, "presence", lambda parts: torch.ones(len(parts[0]), len(parts)))


def penalty_is_warmed_up(patch: Patch) -> None:
    patch.setattr(
        multivi.ModalityLossTerms,
        "loss",
        lambda self, w: (self.reconstruction + w * (self.kl_z + self.penalty)).mean(),
    )


def log_library_does_not_leak(patch: Patch) -> None:
    patch.setattr(multivi_coders, "LEAK", -1.0)


def size_factors_feed_a_softmax(patch: Patch) -> None:
    original = multivi_coders.Head
    patch.setattr(
        multivi_coders, "Head", lambda likelihood, **_: original(likelihood, softplus_scale=False)
    )
    patch.setattr(multivi_measure, "build", multivi_oracle.build.__wrapped__)


def depth_is_taken_for_its_logit(patch: Patch) -> None:
    patch.setattr(multivi_coders.torch, "logit", lambda given, eps: given)


def depth_is_that_of_the_genes(patch: Patch) -> None:
    original = multivi_coders.given_sizes

    def first_of_both(cells: Cells, a: Architecture) -> Tensor:
        assert cells.size_factor is not None
        return original(dataclasses.replace(cells, size_factor=cells.size_factor[:, :1]), a)

    patch.setattr(multivi, "given_sizes", first_of_both)


def counts_are_encoded_by_their_logarithm(patch: Patch) -> None:
    original = multivi.MULTIVI.project

    def project(self: multivi.MULTIVI, cells: Cells) -> Projection:
        return original(self, dataclasses.replace(cells, x=cells.x.log1p()))

    patch.setattr(multivi.MULTIVI, "project", project)


def background_is_not_drawn(patch: Patch) -> None:
    original = multivi_coders.ProteinDecoder.surprise
    patch.setattr(
        multivi_coders.ProteinDecoder,
        "surprise",
        lambda self, y, out, noise, batch: original(self, y, out, noise * 0, batch),
    )


def foreground_is_no_higher_than_the_background(patch: Patch) -> None:
    original = protein_likelihood.foreground_scale
    patch.setattr(multivi_coders, "foreground_scale", lambda out: original(out) - 1)


def foreground_is_taken_for_background(patch: Patch) -> None:
    original = multivi.MULTIVI.protein_foreground
    patch.setattr(
        multivi.MULTIVI, "protein_foreground", lambda self, *given: 1 - original(self, *given)
    )


def region_factors_are_left_out(patch: Patch) -> None:
    original = multivi.MULTIVI.openness
    patch.setattr(
        multivi.MULTIVI,
        "openness",
        lambda self, *given: dataclasses.replace(original(self, *given), factors=None),
    )


def heads_look_at_cells_without_their_modality(patch: Patch) -> None:
    def whole(head: SharedHead, given: HeadInput, present: Tensor) -> multivi_gradients.Seam:
        found = head(multivi_gradients._detached(given))
        return multivi_gradients.Seam(given.h, given.log_library, found)

    patch.setattr(multivi_gradients, "_seam", whole)


def depth_has_no_gradient(patch: Patch) -> None:
    original = multivi_gradients._seam

    def without(head: SharedHead, given: HeadInput, present: Tensor) -> multivi_gradients.Seam:
        seam = original(head, given, present)
        return dataclasses.replace(seam, size=seam.size.detach())

    patch.setattr(multivi_gradients, "_seam", without)


def new_columns_stand_where_scvi_tools_puts_them(patch: Patch) -> None:
    patch.setattr(multivi_measure, "build", multivi_oracle.build.__wrapped__)
    patch.setattr(departures, "align", lambda weight, linear: weight)


def reference_rows_train(patch: Patch) -> None:
    patch.setattr(multivi_measure, "build", multivi_oracle.build.__wrapped__)
    original = multivi_oracle.trainable
    patch.setattr(
        multivi_oracle,
        "trainable",
        lambda *args: {name: torch.ones_like(t) for name, t in original(*args).items()},
    )


REFERENCE_MUTATIONS: list[tuple[Mutation, str, str]] = [
    (jeffreys_of_the_posteriors_themselves, TRIMODAL, "penalty"),
    (mmd_squares_the_distance, LEARNT, "penalty"),
    (variances_are_mixed_as_means_are, TRIMODAL, "posterior variance"),
    (learnt_weights_count_alike, LEARNT, "posterior mean"),
    (every_modality_is_present, UNPAIRED, "posterior mean"),
    (every_modality_is_present, UNPAIRED, "reconstruction"),
    (penalty_is_warmed_up, TRIMODAL, "loss, w = 0.3"),
    (log_library_does_not_leak, TRIMODAL, "reconstruction"),
    (counts_are_encoded_by_their_logarithm, TRIMODAL, "posterior mean"),
    (size_factors_feed_a_softmax, SIZED, "reconstruction"),
    (depth_is_taken_for_its_logit, SIZED, "depth"),
    (depth_is_that_of_the_genes, SIZED, "depth"),
    (background_is_not_drawn, TRIMODAL, "reconstruction"),
    (foreground_is_no_higher_than_the_background, TRIMODAL, "reconstruction"),
    (foreground_is_taken_for_background, TRIMODAL, "protein foreground"),
    (region_factors_are_left_out, UNPAIRED, "reconstruction"),
    (region_factors_are_left_out, UNPAIRED, "gradient in training mode"),
]
QUERY_MUTATIONS: list[tuple[Mutation, str, str]] = [
    (heads_look_at_cells_without_their_modality, UNPAIRED, "way of the weights"),
    (depth_has_no_gradient, TRIMODAL, "way of the weights"),
    (new_columns_stand_where_scvi_tools_puts_them, PLATES, "posterior mean"),
    (reference_rows_train, BY_BATCH, "frozen weights"),
]


@pytest.mark.parametrize(("mutation", "name", "quantity"), REFERENCE_MUTATIONS)
def test_reference_catches(mutation: Mutation, name: str, quantity: str) -> None:
    assert_caught(mutation, compare_reference, failures, (name, quantity))


@pytest.mark.parametrize(("mutation", "name", "quantity"), QUERY_MUTATIONS)
def test_query_catches(mutation: Mutation, name: str, quantity: str) -> None:
    assert_caught(mutation, compare_query, failures, (name, quantity))
