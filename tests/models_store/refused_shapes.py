"""What `test_shapes` runs in its own process alone, where shapes are checked: they can fail."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from models_store.cells import Posterior
from models_store.likelihoods import log_likelihood_gradient
from models_store.reconstruction import Head

from .networks import reference


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(TypeCheckError):
        reference().z_encoder.layers.project(torch.zeros(3))
    with pytest.raises(TypeCheckError):
        Posterior(torch.zeros(3, 2), torch.zeros(3, 2)).kl(torch.zeros(3, 2), torch.ones(3, 1))
    with pytest.raises(TypeCheckError):
        Head("nb", softplus_scale=False).scale(torch.zeros(3))
    x, mu, theta = torch.ones(2, 3), torch.ones(3, 2), torch.ones(3)
    with pytest.raises(TypeCheckError):
        log_likelihood_gradient("nb", x, mu, theta, None, wants_theta=False)
