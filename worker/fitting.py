"""Fitting query weights: the loop that trains the rows of new categories and nothing else.

It takes networks and tensors, and knows no job, no file, no HTTP.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from models_store.cvae import CVAE
from models_store.kinds import step_gradients
from models_store.recipe import Recipe
from models_store.surgery import graft, penalised_rows, query_parameters, query_weights
from worker.plateau import Plateau
from worker.restraint import Restrained
from worker.shrinkage import trusted_share
from worker.training_cells import TrainingCells
from worker.watch import Watch

Tick = Callable[[float], None]
"""Called at every step with the share done; raises when the job is cancelled."""
Restrain = Callable[[Callable[[float], CVAE]], Restrained]
"""Says how far on the way from the start to the fitted rows to go, given the network at t."""

HEURISTIC_CELLS, HEURISTIC_EPOCHS = 20_000, 400


@dataclass(frozen=True)
class Fit:
    """What a fit found, and how it went. ELBOs are means per cell in nats, at KL weight 1."""

    weights: dict[str, Tensor]
    n_trainable: int
    n_cells: int
    n_held_out: int
    epochs: int
    elbo_before: float
    elbo_after: float
    stop_reason: str
    trusted: float
    """Share of the way to the fitted rows that so many cells warrant (`worker.shrinkage`); 1 where
    the reference's own cells tell how far to go."""
    shrinkage: float
    """Root mean square distance of the rows from their start, in units of the reference's own
    spread between batches: 0 is `forward`, 1 is as far as reference batches lie apart."""
    restrained: Restrained | None = None
    """How far the rows were then gone along with; None: all the way, unasked."""


def fit(
    reference: CVAE,
    group: TrainingCells,
    recipe: Recipe,
    *,
    n_new: Sequence[int],
    library_prior: Tensor | None,
    seed: int,
    tick: Tick,
    restrain: Restrain | None = None,
) -> Fit:
    """Train the rows of a group's new categories by the recipe.

    Args:
        reference: the frozen network.
        group: the training cells, held-out cells first (their order is random by content).
        n_new: new categories of the batch, then of each extra covariate.
        library_prior: mean and variance of the log library of each new batch, (new, 2).
        seed: decides minibatches and noise.
        tick: see `Tick`.
        restrain: see `Restrain`; None goes all the way.
    """
    generator = torch.Generator().manual_seed(seed)
    start = graft(reference, n_new)
    random = generator if recipe.start == "random" else None
    cvae = graft(reference, n_new, random=random)
    for network in (start, cvae):
        if library_prior is not None:
            network.library_prior[network.n_categories[0] :] = library_prior
    with _one_thread() as threads:
        watch = Watch.of(group, recipe, seed)
        before = watch.elbo(start)
        loop = _Loop(cvae, recipe, generator, watch, threads=threads)
        epochs, reason = loop.run(tick)
        by_chance = 0.0 if restrain and recipe.to_nearest else recipe.chance_distance
        trusted = trusted_share(_distance(cvae), len(group), by_chance)
        _Line(start, cvae).at(trusted)
        restrained = None
        if restrain is not None and epochs:
            line = _Line(start, cvae)
            restrained = restrain(line.at)
            line.at(restrained.share)
        after = watch.elbo(cvae) if epochs else before
    return Fit(
        weights=query_weights(cvae),
        n_trainable=sum(p.numel() for p in query_parameters(cvae).values()),
        n_cells=len(group),
        n_held_out=len(group) - len(watch.training),
        epochs=epochs,
        elbo_before=before,
        elbo_after=after,
        stop_reason=reason,
        trusted=trusted,
        shrinkage=_distance(cvae),
        restrained=restrained,
    )


class _Line:
    """The way from the rows of one network to those of another, on which the other is put."""

    def __init__(self, start: CVAE, fitted: CVAE) -> None:
        self.fitted = fitted
        ends = (query_parameters(network).values() for network in (start, fitted))
        self.ends = [(a.detach(), b, b.detach().clone()) for a, b in zip(*ends, strict=True)]

    @torch.no_grad()
    def at(self, share: float) -> CVAE:
        """The fitted network with its rows at this share of the way; the same object each time."""
        for start, rows, end in self.ends:
            rows.copy_(end if share == 1.0 else torch.lerp(start, end, share))
        return self.fitted


@contextmanager
def _one_thread() -> Iterator[int]:
    """torch on one thread; gives the number that it had.

    A step is many products of a fraction of a millisecond: waking more threads for each of them
    costs more than it saves, most of all on a machine with other work (decision 0012).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def n_epochs(recipe: Recipe, n_cells: int) -> int:
    """The recipe's epochs, or scvi-tools' heuristic for so many cells."""
    if recipe.max_epochs is not None:
        return recipe.max_epochs
    return max(1, min(round(HEURISTIC_CELLS / n_cells * HEURISTIC_EPOCHS), HEURISTIC_EPOCHS))


@torch.no_grad()
def _distance(cvae: CVAE) -> float:
    tables = list(penalised_rows(cvae))
    squares = sum(float(((w - mean) / spread).square().sum()) for w, mean, spread in tables)
    return math.sqrt(squares / max(1, sum(w.numel() for w, _, _ in tables)))


class _Loop:
    """Adam over minibatches until the recipe says stop."""

    def __init__(
        self,
        cvae: CVAE,
        recipe: Recipe,
        generator: torch.Generator,
        watch: Watch,
        *,
        threads: int,
    ) -> None:
        self.cvae, self.training, self.recipe, self.watch = cvae, watch.training, recipe, watch
        self.generator = generator
        self.parameters = list(query_parameters(cvae).values())
        self.gradients = step_gradients(
            cvae,
            self.training.cells,
            self.training.projection,
            threads=threads,
            minibatch_size=recipe.minibatch_size,
        )
        self.prior = list(penalised_rows(cvae))
        self.epochs = n_epochs(recipe, max(1, len(watch.training)))

    def run(self, tick: Tick) -> tuple[int, str]:
        """Epochs done, and why it ended."""
        if self.epochs == 0:
            return 0, "forward: nothing is trained"
        if not self.parameters or not len(self.training):
            return 0, "nothing to train"
        optimiser = torch.optim.Adam(
            self.parameters, lr=self.recipe.learning_rate, eps=self.recipe.adam_eps, fused=True
        )
        plateau = self._plateau() if self.recipe.patience else None
        for epoch in range(self.epochs):
            self._epoch(epoch, optimiser, tick, plateau)
            if plateau is not None and plateau.is_over:
                plateau.restore_best()
                return epoch + 1, f"converged: the {self.watch.name} no longer rose"
        if plateau is not None:
            plateau.evaluate(optimiser)
            plateau.restore_best()
        return self.epochs, "the recipe's number of epochs"

    def _plateau(self) -> Plateau:
        return Plateau(self.cvae, self.parameters, self.watch, self.recipe)

    def _epoch(
        self, epoch: int, optimiser: torch.optim.Adam, tick: Tick, plateau: Plateau | None
    ) -> None:
        warmup = self.recipe.kl_warmup_epochs
        kl_weight = min(1.0, epoch / warmup) if warmup else 1.0
        order = torch.randperm(len(self.training), generator=self.generator)
        order = order.to(self.training.cells.x.device)
        for at, index in enumerate(torch.split(order, self.recipe.minibatch_size)):
            tick((epoch + at * self.recipe.minibatch_size / len(order)) / self.epochs)
            self._set_gradients(index, kl_weight)
            optimiser.step()
            if plateau is not None:
                plateau.after_step(optimiser)
                if plateau.is_over:
                    return

    def _set_gradients(self, index: Tensor, kl_weight: float) -> None:
        noise = self.cvae.draw_noise(len(index), self.generator)
        found = self.gradients(index, noise, kl_weight)
        for parameter in self.parameters:
            parameter.grad = found[parameter]
        if self.recipe.penalty:
            cells = self.recipe.cells_beside_prior(len(self.training))
            share = self.recipe.penalty / cells
            for rows, mean, spread in self.prior:
                assert rows.grad is not None
                rows.grad.add_(rows.detach() - mean, alpha=share / spread**2)
