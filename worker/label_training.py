"""Training with labels from the weights of an SCVI, as scvi-tools' `from_scvi_model` does."""

from __future__ import annotations

from dataclasses import replace

from models_store.cells import Cells
from models_store.scanvi import SCANVI
from models_store.scvi import SCVI
from worker.reference_training import Schedule, Tick, TrainedReference, train_reference

MOST_EPOCHS, FEWEST_EPOCHS, SHARE_OF_EPOCHS = 10, 2, 1 / 3
"""scvi-tools' epochs with labels, after so many without."""


def epochs_with_labels(epochs: int) -> int:
    """How long the second phase is."""
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(SHARE_OF_EPOCHS * epochs)))


def train_after_scvi(
    cvae: SCANVI,
    plain: SCVI,
    training: Cells,
    held_out: Cells | None,
    schedule: Schedule,
    tick: Tick,
) -> TrainedReference:
    """Train `plain` by the schedule, then `cvae` from its weights for a few epochs.

    Args:
        cvae: freshly drawn; it ends trained and in eval mode.
        plain: an SCVI of the same sizes, freshly drawn.
        tick: called at every step of both with the share done.
    """
    more = epochs_with_labels(schedule.epochs)
    share = schedule.epochs / (schedule.epochs + more)
    first = train_reference(plain, training, None, schedule, lambda done: tick(share * done))
    cvae.load_state_dict(plain.state_dict(), strict=False)
    labelled = replace(schedule, epochs=more, warmup=0.0)
    second = train_reference(
        cvae, training, held_out, labelled, lambda done: tick(share + (1 - share) * done)
    )
    return replace(
        second, epochs=first.epochs + second.epochs, seconds=first.seconds + second.seconds
    )
