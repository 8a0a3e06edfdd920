"""Fitting query weights: the loop that trains the rows of new categories and nothing else.

It takes networks and tensors, and knows no job, no file, no HTTP.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from models_store.cells import Cells, Projection, Rows, select_cells
from models_store.query_gradients import QueryGradients
from models_store.recipe import Recipe
from models_store.replayed_gradients import ReplayedGradients
from models_store.scvi import SCVI, LossTerms
from models_store.surgery import graft, penalised_rows, query_parameters, query_weights

Tick = Callable[[float], None]
"""Called at every step with the share done; raises when the job is cancelled."""

FEWEST_HELD_OUT = 5
"""With fewer cells to hold out, the fit watches the penalised objective of its own cells."""
MOST_HELD_OUT = 1000
EVALUATION_DRAWS = 256
"""A held-out ELBO averages at least so many noise draws, over cells and repeats."""
TOLERANCE = 2e-4
"""Relative gain in the watched number that counts as better."""
LEARNING_RATE_DROP = 0.2
DROPS = 2
FEWEST_STEPS_BETWEEN_EVALUATIONS = 10
HEURISTIC_CELLS, HEURISTIC_EPOCHS = 20_000, 400


@dataclass(frozen=True)
class TrainingCells:
    """Cells of one group, in an order that their content decides.

    Codes of new categories follow those of the reference, as surgery numbers them.
    """

    cells: Cells
    projection: Projection

    def rows(self, rows: Rows) -> "TrainingCells":
        return TrainingCells(select_cells(self.cells, rows), self.projection.rows(rows))

    def __len__(self) -> int:
        return len(self.cells.x)


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
    shrinkage: float
    """Root mean square distance of the rows from their start, in units of the reference's own
    spread between batches: 0 is `forward`, 1 is as far as reference batches lie apart."""


def fit(
    reference: SCVI,
    group: TrainingCells,
    recipe: Recipe,
    *,
    n_new: Sequence[int],
    library_prior: Tensor | None,
    seed: int,
    tick: Tick,
) -> Fit:
    """Train the rows of a group's new categories by the recipe.

    Args:
        reference: the frozen network.
        group: the training cells, held-out cells first (their order is random by content).
        n_new: new categories of the batch, then of each extra covariate.
        library_prior: mean and variance of the log library of each new batch, (new, 2).
        seed: decides minibatches and noise.
        tick: see `Tick`.
    """
    generator = torch.Generator().manual_seed(seed)
    start = graft(reference, n_new)
    random = generator if recipe.start == "random" else None
    cvae = start if random is None else graft(reference, n_new, random=random)
    for network in (start, cvae):
        if library_prior is not None:
            network.library_prior[network.n_categories[0] :] = library_prior
    with _one_thread() as threads:
        watch = _Watch.of(group, recipe, seed)
        before = watch.elbo(start)
        loop = _Loop(cvae, recipe, generator, watch, threads=threads)
        epochs, reason = loop.run(tick)
        after = before if recipe.max_epochs == 0 else watch.elbo(cvae)
    return Fit(
        weights=query_weights(cvae),
        n_trainable=sum(p.numel() for p in query_parameters(cvae).values()),
        n_cells=len(group),
        n_held_out=len(group) - len(watch.training),
        epochs=epochs,
        elbo_before=before,
        elbo_after=after,
        stop_reason=reason,
        shrinkage=_distance(cvae),
    )


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
def penalty(cvae: SCVI, n_cells: int) -> float:
    """-log of a Gaussian prior on the query rows, per cell: Σ (w - mean)² / (2 spread²) / cells.

    Beside the mean loss of a cell this is maximum a posteriori: strength 1 is the prior that the
    reference's own batches suggest, and more cells outweigh it.
    """
    tables = penalised_rows(cvae)
    squares = (((rows - mean) ** 2).sum() / (2 * spread**2) for rows, mean, spread in tables)
    return float(sum(squares)) / n_cells


@torch.no_grad()
def _distance(cvae: SCVI) -> float:
    tables = list(penalised_rows(cvae))
    squares = sum(float(((w - mean) / spread).square().sum()) for w, mean, spread in tables)
    return math.sqrt(squares / max(1, sum(w.numel() for w, _, _ in tables)))


@dataclass
class _Watch:
    """The cells and the noise by which a fit judges itself: the same at every evaluation."""

    group: TrainingCells
    noise_seed: int
    training: TrainingCells
    held_out: bool

    @classmethod
    def of(cls, group: TrainingCells, recipe: Recipe, seed: int) -> "_Watch":
        n, device = len(group), group.cells.x.device
        aside = min(int(recipe.held_out * n), MOST_HELD_OUT)
        aside = aside if aside >= FEWEST_HELD_OUT else 0
        watched = torch.arange(aside or min(n, MOST_HELD_OUT), device=device)
        # Few cells are repeated, to be drawn for in one pass: a pass a draw would take seconds.
        watched = watched.repeat(max(1, math.ceil(EVALUATION_DRAWS / max(1, len(watched)))))
        training = group.rows(slice(aside, n))
        return cls(group.rows(watched), seed, training, held_out=aside > 0)

    @torch.no_grad()
    def elbo(self, cvae: SCVI) -> float:
        """Mean ELBO of the watched cells at KL weight 1."""
        return float(self._terms(cvae).elbo)

    @torch.no_grad()
    def score(self, cvae: SCVI, recipe: Recipe) -> float:
        """What must grow: the held-out ELBO, or the penalised one of the training cells.

        Known labels count in it as they do in the loss.
        """
        score = -float(self._terms(cvae).loss(1.0))
        if self.held_out:
            return score
        return score - recipe.penalty * penalty(cvae, len(self.training))

    def _terms(self, cvae: SCVI) -> LossTerms:
        generator = torch.Generator().manual_seed(self.noise_seed)
        noise = cvae.draw_noise(len(self.group), generator)
        return cvae.loss_terms(self.group.cells, noise, self.group.projection)


class _Loop:
    """Adam over minibatches until the recipe says stop."""

    def __init__(
        self,
        cvae: SCVI,
        recipe: Recipe,
        generator: torch.Generator,
        watch: _Watch,
        *,
        threads: int,
    ) -> None:
        self.cvae, self.training, self.recipe, self.watch = cvae, watch.training, recipe, watch
        self.generator = generator
        self.parameters = list(query_parameters(cvae).values())
        on_cpu = cvae.library_prior.device.type == "cpu"
        gradients = QueryGradients(
            cvae, self.training.cells, self.training.projection, threads=threads if on_cpu else 1
        )
        self.gradients: QueryGradients | ReplayedGradients = gradients
        if not on_cpu:
            self.gradients = ReplayedGradients(gradients, recipe.minibatch_size)
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
        plateau = _Plateau(self, optimiser) if self.recipe.patience else None
        for epoch in range(self.epochs):
            self._epoch(epoch, optimiser, tick, plateau)
            if plateau is not None and plateau.is_over:
                plateau.restore_best()
                return epoch + 1, f"converged: the {plateau.watched} no longer rose"
        if plateau is not None:
            plateau.evaluate()
            plateau.restore_best()
        return self.epochs, "the recipe's number of epochs"

    def _epoch(
        self, epoch: int, optimiser: torch.optim.Adam, tick: Tick, plateau: "_Plateau | None"
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
                plateau.after_step()
                if plateau.is_over:
                    return

    def _set_gradients(self, index: Tensor, kl_weight: float) -> None:
        noise = self.cvae.draw_noise(len(index), self.generator)
        found = self.gradients(index, noise, kl_weight)
        for parameter in self.parameters:
            parameter.grad = found[parameter]
        if self.recipe.penalty:
            share = self.recipe.penalty / len(self.training)
            for rows, mean, spread in self.prior:
                assert rows.grad is not None
                rows.grad.add_(rows.detach() - mean, alpha=share / spread**2)


class _Plateau:
    """Remembers the best weights; slows down at a plateau, and ends at the last one."""

    def __init__(self, loop: _Loop, optimiser: torch.optim.Adam) -> None:
        self.loop, self.optimiser = loop, optimiser
        self.watched = "held-out ELBO" if loop.watch.held_out else "penalised ELBO"
        steps = math.ceil(len(loop.training) / loop.recipe.minibatch_size)
        self.every = max(steps, FEWEST_STEPS_BETWEEN_EVALUATIONS)
        self.step, self.stale, self.drops = 0, 0, 0
        self._keep(loop.watch.score(loop.cvae, loop.recipe))

    @property
    def is_over(self) -> bool:
        return self.drops > DROPS

    def after_step(self) -> None:
        self.step += 1
        if self.step % self.every == 0:
            self.evaluate()

    def evaluate(self) -> None:
        score = self.loop.watch.score(self.loop.cvae, self.loop.recipe)
        if score > self.best + TOLERANCE * abs(self.best):
            self._keep(score)
            self.stale = 0
            return
        self.stale += 1
        if self.stale >= self.loop.recipe.patience:
            self.stale, self.drops = 0, self.drops + 1
            for settings in self.optimiser.param_groups:
                settings["lr"] *= LEARNING_RATE_DROP

    def _keep(self, score: float) -> None:
        self.best = score
        self.weights = [p.detach().clone() for p in self.loop.parameters]

    @torch.no_grad()
    def restore_best(self) -> None:
        for parameter, best in zip(self.loop.parameters, self.weights, strict=True):
            parameter.copy_(best)
