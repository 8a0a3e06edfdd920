"""Training a reference from counts: the whole network, and what becomes of cells held out."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models_store.blocks import judged_at_once
from models_store.cells import Cells
from models_store.cvae import CVAE
from models_store.multivi import MULTIVI
from models_store.peakvi import PEAKVI
from models_store.scanvi import SCANVI
from models_store.sparse_counts import columns, row_sums
from models_store.totalvi import TOTALVI
from worker.adversary import Adversary
from worker.modality_start import start_at_averages
from worker.protein_background import start_backgrounds

Tick = Callable[[float], None]

MINIBATCH = 128
ADAM_EPS = 1e-8
WARMUP_SHARE = 0.5
"""Share of the steps over which the KL weight rises to 1, where it stays. A short one gives a
slightly better ELBO and an emptier latent: dimensions that the decoder has not learnt to use yet
are given up (decision 0014)."""
LAST_LEARNING_RATE_SHARE = 0.01
PENALTY_POWER = 3
"""The penalty of MULTIVI rises with this power of the KL weight: before the modalities have learnt
what to say, what pulls them together makes them say nothing (decision 0073)."""
FEWEST_LABELLED = 3
"""Of a minibatch of labelled cells, which batch norm could not learn from otherwise."""


@dataclass(frozen=True)
class Optimiser:
    """Adam, and what it is given."""

    learning_rate: float = 1e-3
    weight_decay: float = 1e-6
    decoupled: bool = False
    """Whether the weight decay is AdamW's."""
    eps: float = ADAM_EPS
    clip: float = 50.0
    """Norm of the gradient beyond which it is cut."""

    def over(self, parameters: list[torch.nn.Parameter]) -> torch.optim.Adam:
        """For these weights."""
        kind = torch.optim.AdamW if self.decoupled else torch.optim.Adam
        rate, decay = self.learning_rate, self.weight_decay
        return kind(parameters, lr=rate, eps=self.eps, weight_decay=decay, fused=True)


OF_REGIONS = Optimiser(weight_decay=1e-3, decoupled=True, clip=math.inf)
"""For kinds of regions: scvi-tools' weight decay, and no cut. Their losses are sums over very many
regions, so their gradients are all long; Adam takes no notice (decision 0071)."""


OF_PROTEINS = Optimiser(learning_rate=4e-3)
"""For TOTALVI: scvi-tools' learning rate, with our eps and cosine (decision 0072)."""


@dataclass(frozen=True)
class Schedule:
    """How long a reference trains, and by what. Learning rate falls along a cosine."""

    epochs: int
    seed: int
    warmup: float = WARMUP_SHARE
    optimiser: Optimiser = Optimiser()

    def kl_weight(self, step: int, steps: int) -> float:
        """Of a step, counted from 0: it rises from 0; without a warmup it is 1 from the start."""
        return min(1.0, step / max(1.0, self.warmup * steps)) if self.warmup else 1.0


@dataclass(frozen=True)
class TrainedReference:
    """What training found: the mean held-out ELBO per cell in nats (higher is better)."""

    epochs: int
    held_out_elbo: float | None
    seconds: float
    held_out_accuracy: float | None = None
    """Share of held-out cells with a label that the classifier gives this label."""


def default_epochs(n_cells: int) -> int:
    """Fewer epochs for more cells: about as many steps as 8,000 cells take in 100 epochs."""
    return max(20, min(200, round(800_000 / n_cells)))


def split_cells(n_cells: int, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """Training and held-out indices, at random by the seed; fewer than 20 cells hold none out."""
    order = torch.randperm(n_cells, generator=torch.Generator().manual_seed(seed))
    aside = int(held_out * n_cells) if n_cells >= 20 else 0
    return order[aside:], order[:aside]


def train_reference(
    cvae: CVAE, training: Cells, held_out: Cells | None, schedule: Schedule, tick: Tick
) -> TrainedReference:
    """Train in place; the network ends in eval mode.

    Args:
        cvae: freshly drawn, on the device of the cells.
        held_out: cells that only judge; None for none.
        tick: called at every step with the share done; raises to cancel.
    """
    began = time.monotonic()
    _set_library_prior(cvae, training)
    _start(cvae, training, schedule)
    adversary = Adversary.where_needed(cvae, training)
    generator = torch.Generator().manual_seed(schedule.seed)
    device = training.x.device
    parameters = [p for p in cvae.parameters() if p.numel()]
    asked = schedule.optimiser
    optimiser = asked.over(parameters)
    steps = schedule.epochs * math.ceil(len(training.x) / MINIBATCH)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, steps, eta_min=asked.learning_rate * LAST_LEARNING_RATE_SHARE
    )
    cvae.train()
    labelled = _labelled_minibatches(cvae, training, schedule.seed)
    step = 0
    for _ in range(schedule.epochs):
        order = torch.randperm(len(training.x), generator=generator).to(device)
        for index in torch.split(order, MINIBATCH):
            if len(index) < 3 and len(order) > MINIBATCH:
                continue  # batch norm cannot learn from one cell; it comes again next epoch
            tick(step / steps)
            kl_weight = schedule.kl_weight(step, steps)
            optimiser.zero_grad()
            noise = cvae.draw_noise(len(index), generator)
            minibatch = cvae.minibatch(training, index)
            projection = None if adversary is None else cvae.project(minibatch)
            loss = cvae.training_loss(
                minibatch, noise, kl_weight, projection=projection, labelled=next(labelled)
            )
            if adversary is not None and projection is not None:
                weight = adversary.weight(kl_weight)
                loss = loss + adversary.pressure(minibatch, projection, noise, weight)
            torch.autograd.backward(loss)
            if asked.clip < math.inf:
                torch.nn.utils.clip_grad_norm_(parameters, asked.clip)
            optimiser.step()
            rate.step()
            step += 1
    optimiser.zero_grad()  # gradients are as large as the network
    cvae.eval()
    if isinstance(cvae, MULTIVI):
        cvae.penalty_power = 0
    elbo = None if held_out is None else mean_elbo(cvae, held_out, seed=schedule.seed)
    accuracy = None if held_out is None else label_accuracy(cvae, held_out)
    return TrainedReference(schedule.epochs, elbo, time.monotonic() - began, accuracy)


def _start(cvae: CVAE, training: Cells, schedule: Schedule) -> None:
    if isinstance(cvae, TOTALVI):
        start_backgrounds(cvae, training, schedule.seed)
    if isinstance(cvae, MULTIVI | PEAKVI):
        start_at_averages(cvae, training)
    if isinstance(cvae, MULTIVI):
        cvae.penalty_power = PENALTY_POWER


def _labelled_minibatches(cvae: CVAE, training: Cells, seed: int) -> Iterator[Cells | None]:
    """Cells that the classifier learns from at each step, where only some have a label.

    Drawn by themselves, as scvi-tools does, so that few labels among many cells count in every
    step. None where there is no classifier, or the minibatch has a label for every cell.
    """
    known = None
    if isinstance(cvae, SCANVI) and training.labels is not None:
        known = torch.nonzero(training.labels < cvae.n_labels).squeeze(1)
    if known is None or len(known) in {0, len(training.x)}:
        yield from itertools.repeat(None)
        return
    known = known.repeat(math.ceil(FEWEST_LABELLED / len(known)))
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = known[torch.randperm(len(known), generator=generator).to(known.device)]
        for index in torch.split(order, MINIBATCH):
            if len(index) >= FEWEST_LABELLED:
                yield cvae.minibatch(training, index)


@torch.no_grad()
def label_accuracy(cvae: CVAE, cells: Cells) -> float | None:
    """Share of the cells with a label that are given it; None without any, or no classifier."""
    if not isinstance(cvae, SCANVI) or cells.labels is None:
        return None
    known = torch.nonzero(cells.labels < cvae.n_labels).squeeze(1)
    if not len(known):
        return None
    labelled = cvae.minibatch(cells, known)
    assert isinstance(cvae, SCANVI)
    assert labelled.labels is not None
    m = cvae.posterior(cvae.project(labelled), labelled.codes).m
    right = cvae.label_probabilities(m).argmax(-1) == labelled.labels
    return float(right.float().mean())


@torch.no_grad()
def mean_elbo(cvae: CVAE, cells: Cells, *, seed: int, draws: int = 5) -> float:
    """Mean ELBO per cell at KL weight 1, over shared noise draws."""
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(draws):
        for index in torch.split(torch.arange(len(cells.x)), judged_at_once(cells.x.shape[1])):
            block = cvae.minibatch(cells, index.to(cells.x.device))
            noise = cvae.draw_noise(len(index), generator)
            total += float(cvae.loss_terms(block, noise).elbo) * len(index)
    return total / (draws * len(cells.x))


def _set_library_prior(cvae: CVAE, training: Cells) -> None:
    """Mean and population variance of the log library of each batch (scvi-tools' prior)."""
    a = cvae.architecture
    # A library is of the genes alone where there are genes.
    totals = row_sums(columns(training.x, 0, a.n_genes) if a.n_genes else training.x)
    for batch in range(len(cvae.library_prior)):
        mine = torch.as_tensor(training.codes[0] == batch, device=totals.device)
        logs = totals[mine & (totals > 0)].log()
        if len(logs):
            cvae.library_prior[batch, 0] = logs.mean()
            cvae.library_prior[batch, 1] = logs.var(unbiased=False).clamp(min=1e-4)
