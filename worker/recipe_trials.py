"""Recipes tried on cells whose place is known: mapped as a query is, and judged."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from models_store.cvae import CVAE
from models_store.manifest import Manifest
from models_store.recipe import Recipe
from models_store.recipe_evidence import Trial
from worker.alignment import AlignedCounts, Index
from worker.grafting import GroupFit, Progress, QuerySurgery
from worker.known_cells import KnownCells
from worker.projected_query import ProjectedQuery
from worker.recipe_judge import Judge
from worker.restraint import MOST_AMONG

Which = Literal["all", "sample"]


@dataclass(frozen=True)
class Ground:
    """A network onto which cells that it never saw are mapped, and what judges where they land."""

    manifest: Manifest
    cvae: CVAE
    cells: KnownCells
    judge: Judge
    among: Tensor
    """Latents of the network's own cells, as a mapping is restrained by."""

    @classmethod
    def of(
        cls, manifest: Manifest, cvae: CVAE, cells: KnownCells, reference: Index, seed: int
    ) -> Ground:
        """`reference`: the network's own cells among which neighbours are looked for."""
        own = _surgery(manifest, cvae, cells, reference, as_query=False)
        latents = own.encode(own.project(_unheard), None).mean
        judge = Judge(latents.cpu().numpy(), cells.labels[reference], seed)
        return cls(manifest, cvae, cells, judge, latents[:: 1 + len(latents) // MOST_AMONG])

    def trials(
        self, queries: Mapping[Which, Index], recipes: Mapping[str, Recipe], tick: Progress
    ) -> Iterator[Trial]:
        """Every recipe on every query that has cells; none where the network diverged."""
        if not self.judge.is_able:
            return
        queries = {which: cells for which, cells in queries.items() if len(cells)}
        of, at = len(queries) * len(recipes), 0
        for which, query in queries.items():
            surgery = _surgery(
                self.manifest, self.cvae, self.cells, query, as_query=True, among=self.among
            )
            projected = surgery.project(_unheard)
            for name, recipe in recipes.items():
                mapped = _Mapped.by(recipe, surgery, projected, _part(tick, at, of))
                at += 1
                yield self._trial(name, which, query, mapped)

    def _trial(self, name: str, which: Which, query: Index, mapped: _Mapped) -> Trial:
        figures: dict[str, float | None] = {}
        if mapped.is_finite:
            placed = query[mapped.occupied]
            figures = self.judge.figures(
                mapped.latents[mapped.occupied],
                self.cells.labels[placed],
                self.cells.condition[placed],
            )
            figures["elbo_before"] = mapped.elbo("elbo_before")
            figures["elbo"] = mapped.elbo("elbo_after")
        return Trial(
            recipe=name,
            cells=which,
            n_cells=len(query),
            seconds=round(mapped.seconds, 3),
            **{key: None if v is None else round(v, 5) for key, v in figures.items()},
        )


@dataclass(frozen=True)
class _Mapped:
    """Latents of a query under one recipe, and how the fits of its batches went."""

    latents: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    occupied: np.ndarray[tuple[int], np.dtype[np.bool_]]
    fits: Sequence[GroupFit]
    seconds: float

    @classmethod
    def by(
        cls, recipe: Recipe, surgery: QuerySurgery, projected: ProjectedQuery, tick: Progress
    ) -> _Mapped:
        began = time.monotonic()
        fits = surgery.fit(projected, recipe, tick)
        latents = surgery.encode(projected, surgery.weights(fits)).mean.cpu().numpy()
        return cls(latents, projected.occupied, fits, time.monotonic() - began)

    @property
    def is_finite(self) -> bool:
        """Whether there is anything to judge: some fit, and nothing that diverged."""
        elbos = [(each.fit.elbo_before, each.fit.elbo_after) for each in self.fits if each.fit]
        return bool(elbos) and bool(np.isfinite(self.latents).all() and np.isfinite(elbos).all())

    def elbo(self, which: Literal["elbo_before", "elbo_after"]) -> float:
        """Of all batches, by their cells."""
        fits = [each.fit for each in self.fits if each.fit]
        total = math.fsum(fit.n_cells * float(getattr(fit, which)) for fit in fits)
        return total / sum(fit.n_cells for fit in fits)


def _surgery(
    manifest: Manifest,
    cvae: CVAE,
    cells: KnownCells,
    chosen: Index,
    *,
    as_query: bool,
    among: Tensor | None = None,
) -> QuerySurgery:
    counts = AlignedCounts.of_panel(cells.counts.chosen(chosen))
    design = cells.design(manifest, chosen, as_query=as_query)
    return QuerySurgery(manifest, cvae, counts, design, among=among)


def _part(tick: Progress, at: int, of: int) -> Progress:
    return lambda share: tick((at + share) / of)


def _unheard(_share: float) -> None:
    """Projecting takes no time beside training."""
