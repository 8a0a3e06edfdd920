"""Where a query's cells landed: labels found, mixing, and what is left of a response."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from bench.mappings import BenchReference, Float32
from bench.scenarios import Scenario
from worker.known_cells import NO_NAME
from worker.label_vote import macro_f1, nearness, vote
from worker.mixing import mixing
from worker.retained_response import retained_response

MOST_AMONG, MOST_JUDGED = 5000, 1000

Figures = dict[str, float | int]
Index = npt.NDArray[np.int64]


class Landing:
    """Judges latents of a scenario's query, the same cells each time."""

    def __init__(
        self,
        reference: BenchReference,
        scenario: Scenario,
        seed: int,
        *,
        n_reference: int | None = None,
    ) -> None:
        """`n_reference`: so many of its cells, the first, are the reference's; None: all."""
        self._seed, self._scenario = seed, scenario
        self._reference = reference.latents[:n_reference]
        self._reference_labels = _column(scenario.reference, "cell_type")
        self._labels = _column(scenario.query, "cell_type")
        known = set(self._reference_labels.tolist()) - {NO_NAME}
        self._judged = np.isin(self._labels, sorted(known))

    @property
    def share_labelled(self) -> float:
        return float(self._judged.mean())

    def figures(self, latents: Float32) -> Figures:
        """Labels, and mixing and response where they mean something."""
        found = self.labels(latents)
        everything = np.arange(len(latents))
        if self._scenario.is_matched:
            found["mixing"] = self._mixing(latents, np.arange(len(self._reference)), everything)
        if self._scenario.control is not None:
            found |= self._response(latents)
        return found

    def labels(self, latents: Float32) -> Figures:
        """By the weighted vote; nothing where no cell has a label that the reference has."""
        if not self._judged.any():
            return {}
        voters, given = self._reference_labels != NO_NAME, self._labels[self._judged]
        found = vote(
            self._reference[voters],
            self._reference_labels[voters],
            latents[self._judged],
            weights=nearness,
        )
        return {
            "macro_f1": round(macro_f1(given, found), 4),
            "wrong": int((found != given).sum()),
            "of": len(given),
        }

    def _response(self, latents: Float32) -> Figures:
        """Of the query's cells within each label; and how the controls of both mix."""
        query, reference = (
            _column(cells, "condition")
            for cells in (self._scenario.query, self._scenario.reference)
        )
        response = retained_response(latents, self._labels, query, self._seed)
        own, new = (
            np.flatnonzero(condition == self._scenario.control) for condition in (reference, query)
        )
        mixing = self._mixing(latents, own, new)
        return {"response": round(response or 0.5, 4), "mixing_of_controls": mixing}

    def _mixing(self, latents: Float32, own: Index, new: Index) -> float:
        rng = np.random.default_rng(self._seed)
        among = torch.from_numpy(self._reference[rng.permutation(own)[:MOST_AMONG]])
        query = torch.from_numpy(latents[rng.permutation(new)[:MOST_AMONG]])
        return round(mixing(among, query, judged=MOST_JUDGED), 4)


def _column(cells: object, key: str) -> npt.NDArray[np.str_]:
    return np.asarray(cells.obs[key].to_numpy(dtype=np.str_))  # type: ignore[attr-defined]
