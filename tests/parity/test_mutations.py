"""A parity test is worth something only if it can fail: formulas broken on purpose are caught."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models_store import (
    coders,
    head_gradients,
    hidden_gradients,
    layers,
    reconstruction,
    scvi,
)
from models_store.kernels import Logits
from models_store.reconstruction import ReconstructionGradients

from . import departures, measure, oracle
from .measure import compare_query, compare_reference, failures
from .mutations import Mutation, Patch, assert_caught

pytestmark = [
    pytest.mark.parity,
    # scvi-tools, lightning and anndata warn of their own business, on import and in training.
    pytest.mark.filterwarnings("ignore"),
]


def variance_without_its_floor(patch: Patch) -> None:
    original = coders.Encoder.forward

    def forward(self: coders.Encoder, projection: Tensor, codes: layers.Codes) -> coders.Posterior:
        found = original(self, projection, codes)
        return dataclasses.replace(found, v=found.v - self.variance_eps)

    patch.setattr(coders.Encoder, "forward", forward)


def layer_norm_eps_of_batch_norm(patch: Patch) -> None:
    patch.setattr(layers, "LAYER_NORM_EPS", layers.BATCH_NORM_EPS)


def layer_norm_before_batch_norm(patch: Patch) -> None:
    def forward(self: layers.Block, y: Tensor) -> Tensor:
        y = torch.nn.functional.layer_norm(y, y.shape[-1:])
        assert self.batch_norm is not None
        return torch.relu(self.batch_norm(y))

    patch.setattr(layers.Block, "forward", forward)


def covariates_enter_the_first_layer_alone(patch: Patch) -> None:
    original = layers.ConditionalLinear.add_covariates

    def first_only(
        self: layers.ConditionalLinear, expression: Tensor, codes: layers.Codes
    ) -> Tensor:
        deep = self.W_x.shape[0] == self.W_x.shape[1]
        return original(self, expression, () if deep else codes)

    patch.setattr(layers.ConditionalLinear, "add_covariates", first_only)


def kl_without_the_logarithm(patch: Patch) -> None:
    patch.setattr(
        scvi.Posterior, "kl_standard", lambda self: 0.5 * (self.v + self.m**2 - 1).sum(-1)
    )


def library_prior_takes_sd_for_variance(patch: Patch) -> None:
    original = scvi.Posterior.kl
    patch.setattr(scvi.Posterior, "kl", lambda self, m, v: original(self, m, v.sqrt()))


def library_kl_is_warmed_up(patch: Patch) -> None:
    patch.setattr(
        scvi.LossTerms,
        "loss",
        lambda self, w: (self.reconstruction + w * (self.kl_z + self.kl_library)).mean(),
    )


def size_factors_feed_a_softmax(patch: Patch) -> None:
    patch.setattr(reconstruction.Head, "scale", lambda self, a: torch.softmax(a, dim=-1))


def zero_inflation_of_the_other_sign(patch: Patch) -> None:
    original = reconstruction.fused_negative_log_likelihood
    patch.setattr(
        reconstruction,
        "fused_negative_log_likelihood",
        lambda x, mu, theta, pi: original(x, mu, theta, -pi),
    )


def library_of_logged_counts(patch: Patch) -> None:
    original = scvi.SCVI.project

    def project(self: scvi.SCVI, cells: scvi.Cells) -> scvi.Projection:
        return dataclasses.replace(
            original(self, cells), log_library=cells.x.log1p().sum(-1, keepdim=True).log()
        )

    patch.setattr(scvi.SCVI, "project", project)


def _changed(
    original: Callable[..., ReconstructionGradients], parts: dict[str, Callable[[Tensor], Tensor]]
) -> Callable[..., ReconstructionGradients]:
    def changed(*args: object) -> ReconstructionGradients:
        found = original(*args)
        return dataclasses.replace(
            found,
            **{
                part: change(g)
                for part, change in parts.items()
                if (g := getattr(found, part)) is not None
            },
        )

    return changed


def _change_gradient(patch: Patch, **parts: Callable[[Tensor], Tensor]) -> None:
    """Both ways of computing it: by definition, and in the fused kernels."""
    for way in ("_by_definition", "_fused"):
        patch.setattr(reconstruction, way, _changed(getattr(reconstruction, way), parts))
    original = head_gradients.fused_gradient

    def in_place(x: object, scale: Logits, library: Tensor, theta: Tensor, pi: Logits) -> Tensor:
        total = original(x, scale, library, theta, pi)
        for part, given in (("logits", scale), ("pi", pi)):
            if part in parts and given is not None:
                given.product.copy_(parts[part](given.product))
        return total

    patch.setattr(head_gradients, "fused_gradient", in_place)


def slope_of_mu_a_thousandth_too_large(patch: Patch) -> None:
    _change_gradient(patch, logits=lambda slope: slope * 1.001)


def slope_of_theta_of_the_other_sign(patch: Patch) -> None:
    _change_gradient(patch, log_theta=lambda slope: -slope)


def no_slope_of_zero_inflation(patch: Patch) -> None:
    _change_gradient(patch, pi=torch.zeros_like)


def query_gradients_forget_the_slope_of_batch_norm(patch: Patch) -> None:
    backward = hidden_gradients.FusedNorms.backward

    def forgetful(self: hidden_gradients.FusedNorms, g: Tensor) -> tuple[Tensor, Tensor | None]:
        found, total = backward(self, g)
        assert total is not None
        return found / self.affine.slope, total / self.affine.slope

    patch.setattr(hidden_gradients.FusedNorms, "backward", forgetful)


def draws_of_ln_stay_off_the_simplex(patch: Patch) -> None:
    patch.setattr(scvi.SCVI, "sample", lambda self, posterior, noise: posterior.sample(noise))


def latent_of_ln_is_softmax_of_the_mean(patch: Patch) -> None:
    patch.setattr(scvi.SCVI, "latent", lambda self, posterior: torch.softmax(posterior.m, dim=-1))


def new_columns_stand_where_scvi_tools_puts_them(patch: Patch) -> None:
    patch.setattr(measure, "build", oracle.build.__wrapped__)
    patch.setattr(departures, "align", lambda weight, linear: weight)


def reference_rows_train(patch: Patch) -> None:
    patch.setattr(measure, "build", oracle.build.__wrapped__)
    original = oracle._trainable
    patch.setattr(
        oracle,
        "_trainable",
        lambda *args: {name: torch.ones_like(t) for name, t in original(*args).items()},
    )


REFERENCE_MUTATIONS: list[tuple[Mutation, str, str]] = [
    (variance_without_its_floor, "recommended", "posterior variance"),
    (layer_norm_eps_of_batch_norm, "recommended", "posterior mean"),
    (layer_norm_before_batch_norm, "both norms everywhere, poisson", "posterior mean"),
    (covariates_enter_the_first_layer_alone, "recommended", "posterior mean"),
    (kl_without_the_logarithm, "recommended", "KL z"),
    (library_prior_takes_sd_for_variance, "latent library", "KL library"),
    (library_kl_is_warmed_up, "latent library", "loss, w = 0.3"),
    (size_factors_feed_a_softmax, "size factor", "reconstruction"),
    (zero_inflation_of_the_other_sign, "zinb, gene-cell", "reconstruction"),
    (library_of_logged_counts, "recommended", "reconstruction"),
    (slope_of_mu_a_thousandth_too_large, "recommended", "gradient"),
    (slope_of_theta_of_the_other_sign, "recommended", "gradient"),
    (no_slope_of_zero_inflation, "zinb, gene-cell", "gradient in training mode"),
    (draws_of_ln_stay_off_the_simplex, "logistic-normal latent", "reconstruction"),
    (latent_of_ln_is_softmax_of_the_mean, "logistic-normal latent", "latent, in standard errors"),
]

QUERY_MUTATIONS: list[tuple[Mutation, str, str]] = [
    (slope_of_mu_a_thousandth_too_large, "recommended", "way of the weights"),
    (slope_of_theta_of_the_other_sign, "gene-batch dispersion", "weights after 5 steps"),
    (query_gradients_forget_the_slope_of_batch_norm, "three layers", "way of the weights"),
    (covariates_enter_the_first_layer_alone, "three layers", "posterior mean"),
    (new_columns_stand_where_scvi_tools_puts_them, "one extra covariate", "posterior mean"),
    (reference_rows_train, "query with cells of a reference batch", "frozen weights"),
]


@pytest.mark.parametrize(("mutation", "name", "quantity"), REFERENCE_MUTATIONS)
def test_reference_catches(mutation: Mutation, name: str, quantity: str) -> None:
    assert_caught(mutation, compare_reference, failures, (name, quantity))


@pytest.mark.parametrize(("mutation", "name", "quantity"), QUERY_MUTATIONS)
def test_query_catches(mutation: Mutation, name: str, quantity: str) -> None:
    assert_caught(mutation, compare_query, failures, (name, quantity))
