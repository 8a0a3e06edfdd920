"""The classifier that MULTIVI learns to fool, beside scvi-tools' own."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from models_store.cells import select_cells
from worker.adversary import Adversary

from .multivi_oracle import build

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

NAME = "MULTIVI: genes, regions, proteins, unpaired, encoded, deep"


def test_both_losses_and_their_dropout() -> None:
    from scvi.train import AdversarialTrainingPlan

    side = build(NAME).reference
    torch.manual_seed(0)
    plan = AdversarialTrainingPlan(side.module, adversarial_classifier=True)
    ours, theirs = Adversary(side.network), plan.adversarial_classifier
    mine = [m for m in ours.classifier if list(m.parameters())]
    others = [m for m in theirs.modules() if isinstance(m, torch.nn.Linear | torch.nn.BatchNorm1d)]
    for one, other in zip(mine, others, strict=True):
        one.load_state_dict(other.state_dict())
    cells = select_cells(side.cells, torch.arange(40))
    noise = side.network.draw_noise(40, torch.Generator().manual_seed(0))
    projection = side.network.project(cells)
    z = side.network.sample(side.network.posterior(projection, cells.codes), noise.z)
    batch = cells.codes[0]
    for network in (ours.classifier, theirs):
        network.train()
    torch.manual_seed(1)
    dropped = theirs(z)
    torch.manual_seed(1)
    torch.testing.assert_close(ours.classifier(z), dropped)
    for network in (ours.classifier, theirs):
        network.eval()
    guessed = plan.loss_adversarial_classifier(z, batch[:, None], True)
    torch.testing.assert_close(cross_entropy(ours.classifier(z), batch), guessed)
    fooled = plan.loss_adversarial_classifier(z, batch[:, None], False)
    for group in ours.optimiser.param_groups:
        group["lr"] = 0.0  # it learns before it presses
    torch.testing.assert_close(ours.pressure(cells, projection, noise, 1.0), fooled)
