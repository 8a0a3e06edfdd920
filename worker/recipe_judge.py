"""Where mapped cells landed among a reference's own: labels found, mixing, retained response."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from worker.known_cells import NO_NAME, Names
from worker.label_vote import macro_f1, nearness, vote
from worker.mixing import mixing
from worker.retained_response import retained_response

Float32 = npt.NDArray[np.float32]

MOST_JUDGED_CELLS = 5_000


class Judge:
    """Judges queries against the same reference cells, the same query cells each time."""

    def __init__(self, reference: Float32, labels: Names, seed: int) -> None:
        """Latents and labels of reference cells, (r, n_latent) and (r,)."""
        self._reference, self._labels, self._seed = reference, labels, seed
        self._known = [name for name in np.unique(labels).tolist() if name != NO_NAME]

    @property
    def is_able(self) -> bool:
        """Whether the reference cells are anywhere."""
        return bool(np.isfinite(self._reference).all())

    def figures(self, latents: Float32, labels: Names, condition: Names) -> dict[str, float | None]:
        """The figures of a `Trial` that latents decide.

        Args:
            latents: of a query's cells, (q, n_latent).
            labels: of these, (q,); neither labels nor mixing of a cell are judged whose label the
                reference lacks.
            condition: of these, (q,).
        """
        n = len(latents)
        if n > MOST_JUDGED_CELLS:
            rng = np.random.default_rng(self._seed)
            some = np.sort(rng.choice(n, MOST_JUDGED_CELLS, replace=False))
            latents, labels, condition = latents[some], labels[some], condition[some]
        known = np.isin(labels, self._known)
        matched = known | (labels == NO_NAME)
        return {
            "macro_f1": self._macro_f1(latents[known], labels[known]),
            "mixing": self._mixing(latents[matched]),
            "retained_response": self._response(latents, labels, condition),
        }

    def _mixing(self, latents: Float32) -> float | None:
        if not len(latents):
            return None
        return mixing(torch.from_numpy(self._reference), torch.from_numpy(latents))

    def _macro_f1(self, latents: Float32, labels: Names) -> float | None:
        if not len(latents):
            return None
        voters = self._labels != NO_NAME
        found = vote(self._reference[voters], self._labels[voters], latents, weights=nearness)
        return macro_f1(labels, found)

    def _response(self, latents: Float32, labels: Names, condition: Names) -> float | None:
        """Within each label; without any label at all, within all cells."""
        told = condition != NO_NAME
        if self._known:
            told &= labels != NO_NAME
        return retained_response(latents[told], labels[told], condition[told], self._seed)
