"""The classifier that MULTIVI learns to fool, beside scvi-tools' own."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from worker.adversary import Adversary

from .multivi_oracle import build

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

NAME = "MULTIVI: genes, regions, proteins, unpaired, encoded, deep"


def test_both_losses_and_the_gradient_of_the_latent() -> None:
    from scvi.train import AdversarialTrainingPlan

    module = build(NAME).reference.model.module
    torch.manual_seed(0)
    plan = AdversarialTrainingPlan(module, adversarial_classifier=True, weight_decay=1e-3)
    ours = Adversary(4, module.n_batch, weight_decay=1e-3)
    theirs = plan.adversarial_classifier
    _copy(ours, theirs)
    z = torch.randn(40, 4, requires_grad=True)
    batch = torch.randint(module.n_batch, (40,))
    for network in (ours, theirs):
        network.eval()
    fooled = plan.loss_adversarial_classifier(z, batch[:, None], False)
    torch.testing.assert_close(ours.fool(z, batch), fooled)
    (by_theirs,) = torch.autograd.grad(fooled, z)
    (by_ours,) = torch.autograd.grad(ours.fool(z, batch), z)
    torch.testing.assert_close(by_ours, by_theirs)
    guessed = plan.loss_adversarial_classifier(z, batch[:, None], True)
    torch.testing.assert_close(cross_entropy(ours(z), batch), guessed)
    for network in (ours, theirs):
        network.train()
    torch.manual_seed(1)
    dropped = theirs(z)
    torch.manual_seed(1)
    torch.testing.assert_close(ours(z), dropped)


@torch.no_grad()
def _copy(ours: Adversary, theirs: torch.nn.Module) -> None:
    linears = [m for m in theirs.modules() if isinstance(m, torch.nn.Linear)]
    norms = [m for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert len(linears) == len(ours.layers.linears) + 1
    for mine, linear in zip(ours.layers.linears, linears, strict=False):
        mine.W_x.copy_(linear.weight.T)
        mine.b.copy_(linear.bias)
    for block, norm in zip(ours.layers.blocks, norms, strict=True):
        block.batch_norm.load_state_dict(norm.state_dict())
        assert (block.batch_norm.eps, block.batch_norm.momentum) == (norm.eps, norm.momentum)
    ours.output.load_state_dict(linears[-1].state_dict())
