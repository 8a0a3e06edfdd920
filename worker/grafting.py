"""Surgery on a whole query: project every cell once, fit each group, encode every cell.

Projecting may be shared out among several workers, each with some of the cells: `worker.shards`.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from models_store.bundle import WEIGHTS_FILE
from models_store.cells import Cells, Projection
from models_store.encoding import Latents, encode, join_projections, project_block
from models_store.manifest import Manifest
from models_store.recipe import Recipe
from models_store.scvi import SCVI
from models_store.surgery import graft, join_query_weights, load_query_weights, query_weights
from worker.alignment import AlignedCounts, Float32, Index, UInt64, fold_hashes, row_hashes
from worker.covariates import Group, QueryDesign
from worker.fitting import Fit, Restrain, fit
from worker.restraint import MOST_AMONG, Restrained, restrain
from worker.training_cells import TrainingCells

Progress = Callable[[float], None]

SMALLEST_PRIOR_VARIANCE = 1e-4


class SampleCounts(Protocol):
    """Where a fit finds the counts of the cells that it learns from."""

    def dense(self, cells: Index) -> Float32:
        """Chosen cells in the given order, (cells, genes of the panel)."""


@dataclass(frozen=True)
class ProjectedCells:
    """What one pass over the counts of cells `start` to `stop` leaves behind of each: nothing as
    wide as the gene panel."""

    start: int
    stop: int
    projection: Projection
    totals: Tensor
    """Counts of each cell in the reference's genes, float64, (c,)."""
    occupied: npt.NDArray[np.bool_]
    """Cells with any value other than zero in the reference's genes, (c,)."""
    hashes: UInt64
    """Each cell by its content: counts and covariates, never its position, (c, 2)."""


class ProjectedQuery:
    """All cells of a query, in one part or in several that follow each other."""

    start = 0

    def __init__(self, parts: Sequence[ProjectedCells], counts: SampleCounts) -> None:
        self.parts, self.counts = parts, counts
        self.totals = torch.cat([part.totals for part in parts])
        self.occupied = np.concatenate([part.occupied for part in parts])
        self.hashes = np.concatenate([part.hashes for part in parts])

    def rows(self, cells: Index) -> Projection:
        """The projections of chosen cells, in the given order."""
        order = np.argsort(cells, kind="stable")
        ascending = cells[order]
        bounds = np.searchsorted(
            ascending, [part.start for part in self.parts] + [len(self.totals)]
        )
        found = join_projections(
            [
                _rows(part.projection, ascending[first:last] - part.start)
                for part, (first, last) in zip(self.parts, pairwise(bounds), strict=True)
            ]
        )
        return _rows(found, np.argsort(order))


@dataclass(frozen=True)
class GroupFit:
    """A group and how its fit went; None when it had no cell to learn from."""

    group: Group
    seed: int
    fit: Fit | None


class QuerySurgery:
    """One query on one reference: `project`, then `fit`, then `encode`."""

    def __init__(
        self,
        manifest: Manifest,
        cvae: SCVI,
        counts: AlignedCounts,
        design: QueryDesign,
        *,
        among: Tensor | None = None,
    ) -> None:
        """`among`: latents of some of the reference's cells, (r, z); None where it has none."""
        self.manifest, self.cvae, self.counts, self.design = manifest, cvae, counts, design
        self.among = among
        self.device = cvae.library_prior.device
        self.n_reference = len(manifest.batch.categories)
        self.groups = design.groups(self.n_reference)

    def project(self, progress: Progress) -> ProjectedQuery:
        """One pass over the counts, block by block."""
        return ProjectedQuery([self.project_cells(0, self.counts.n_cells, progress)], self.counts)

    def project_cells(self, start: int, stop: int, progress: Progress) -> ProjectedCells:
        """The same of some cells; `start` is a multiple of a block."""
        parts, totals, occupied, hashes = [], [], [], []
        for first, last, rows in self.counts.blocks(start, stop):
            progress((first - start) / (stop - start))
            parts.append(project_block(self.cvae, self._cells(rows.toarray(), slice(first, last))))
            totals.append(_totals(rows))
            occupied.append(np.diff(rows.indptr) > 0)
            hashes.append(row_hashes(rows))
        columns = [column[start:stop] for column in _content_columns(self.design)]
        return ProjectedCells(
            start,
            stop,
            join_projections(parts),
            torch.cat(totals),
            np.concatenate(occupied),
            fold_hashes(np.concatenate(hashes), columns),
        )

    def fit(self, projected: ProjectedQuery, recipe: Recipe, progress: Progress) -> list[GroupFit]:
        """Fit every group by the recipe, each as if it were alone."""
        n = len(self.groups)
        return [
            self._fit_group(projected, recipe, group, lambda done, i=i: progress((i + done) / n))  # type: ignore[misc]
            for i, group in enumerate(self.groups)
        ]

    def weights(self, fits: list[GroupFit]) -> dict[str, Tensor]:
        """The query weights of all groups in one table; a group without a fit keeps the start."""
        start = query_weights(graft(self.cvae, self.design.n_new))
        if not fits or self.design.is_coupled:
            return fits[0].fit.weights if fits and fits[0].fit else start
        alone = {name: rows[:1] for name, rows in start.items()}
        return join_query_weights([each.fit.weights if each.fit else alone for each in fits])

    def encode(self, projected: ProjectedQuery, weights: dict[str, Tensor] | None) -> Latents:
        """Latents of every cell with these query weights; None: with those that a fit starts at."""
        grafted = graft(self.cvae, self.design.n_new)
        if weights is not None:
            load_query_weights(grafted, weights)
        found = []
        for part in projected.parts:
            codes = (code[part.start : part.stop] for code in self.design.codes)
            on_device = tuple(torch.from_numpy(code).to(self.device) for code in codes)
            found.append(encode(grafted, part.projection, on_device, device=self.device))
        return Latents(
            torch.cat([latents.mean for latents in found]),
            torch.cat([latents.variance for latents in found]),
        )

    def sample_of(self, part: ProjectedCells, recipe: Recipe) -> Index:
        """The cells of a part, ascending, among which are all of it that a fit will learn from.

        A batch's sample are the first of its cells by content, so it is within the union of what
        the parts would choose if each were the whole.
        """
        chosen = [np.empty(0, dtype=np.int64)]
        for group in self.groups:
            first, last = np.searchsorted(group.cells, [part.start, part.stop])
            chosen.append(_by_content(part, group.cells[first:last])[: recipe.sample_size])
        return np.sort(np.concatenate(chosen))

    def _fit_group(
        self, projected: ProjectedQuery, recipe: Recipe, group: Group, progress: Progress
    ) -> GroupFit:
        order = _by_content(projected, group.cells)
        seed = _seed(self.manifest, projected.hashes[order])
        if not len(order):
            return GroupFit(group, seed, None)
        found = fit(
            self.cvae,
            self._training_cells(projected, order[: recipe.sample_size]),
            recipe,
            n_new=group.n_new,
            library_prior=self._library_prior(projected, group, order).to(self.device),
            seed=seed,
            tick=progress,
            restrain=self._restraint(projected, group, order, recipe),
        )
        return GroupFit(group, seed, found)

    def _restraint(
        self, projected: ProjectedQuery, group: Group, order: Index, recipe: Recipe
    ) -> Restrain | None:
        """What says how far the group's fit may go; None where the recipe or nobody can."""
        if not recipe.mixing_kept or self.among is None or not len(self.among):
            return None
        among, cells = self.among, order[:MOST_AMONG]
        projection = projected.rows(cells)
        codes = tuple(torch.from_numpy(c).to(self.device) for c in self._codes(group, cells))

        def restrained(network: Callable[[float], SCVI]) -> Restrained:
            def place(share: float) -> Tensor:
                return encode(network(share), projection, codes, device=self.device).mean

            return restrain(among, place, recipe.mixing_kept)

        return restrained

    def _codes(self, group: Group, cells: Index) -> list[Index]:
        """Of cells of a group; alone, its batch is the first that surgery adds."""
        batch, *others = (code[cells] for code in self.design.codes)
        return [batch if self.design.is_coupled else np.full_like(batch, self.n_reference), *others]

    def _training_cells(self, projected: ProjectedQuery, index: Index) -> TrainingCells:
        cells = self._cells(projected.counts.dense(index), index)
        if not self.design.is_coupled:  # alone, its batch is the first that surgery adds
            cells = replace(cells, codes=(self.n_reference, *cells.codes[1:]))
        return TrainingCells(cells, projected.rows(index).to(self.device))

    def _library_prior(self, projected: ProjectedQuery, group: Group, order: Index) -> Tensor:
        """Mean and population variance of the log library of each new batch, (batches, 2)."""
        logs = projected.totals[torch.from_numpy(order)].clamp(min=1.0).log()
        codes = torch.from_numpy(self.design.codes[0][order])
        first = self.n_reference if self.design.is_coupled else int(codes[0])
        prior = torch.tensor([[0.0, 1.0]]).repeat(len(group.batches), 1)
        for row in range(len(prior)):
            mine = logs[codes == first + row]
            if len(mine):
                prior[row, 0] = mine.mean()
                prior[row, 1] = mine.var(unbiased=False).clamp(min=SMALLEST_PRIOR_VARIANCE)
        return prior

    def _cells(self, x: npt.NDArray[np.float32], index: slice | Index) -> Cells:
        def rows(values: npt.NDArray[np.generic] | None) -> Tensor | None:
            return None if values is None else torch.from_numpy(values[index]).to(self.device)

        design = self.design
        codes = tuple(torch.from_numpy(code[index]).to(self.device) for code in design.codes)
        on_device = torch.from_numpy(x).to(self.device)
        return Cells(
            on_device, codes, rows(design.continuous), rows(design.labels), rows(design.size_factor)
        )


def _totals(rows: sp.csr_matrix) -> Tensor:
    """Counts of each cell in float64, in which scipy would sum only after adding in float32."""
    return torch.from_numpy(np.asarray(rows.astype(np.float64).sum(axis=1)).ravel())


def _rows(projection: Projection, cells: Index) -> Projection:
    return projection.rows(torch.from_numpy(cells).to(projection.z.device))


def _by_content(projected: ProjectedCells | ProjectedQuery, cells: Index) -> Index:
    """Those of these cells that have counts, in an order that only their content decides."""
    cells = cells[projected.occupied[cells - projected.start]]
    hashes = projected.hashes[cells - projected.start]
    return np.asarray(cells[np.lexsort((hashes[:, 1], hashes[:, 0]))], dtype=np.int64)


def _seed(manifest: Manifest, hashes: UInt64) -> int:
    """From the reference's weights and the batch's content: alone or in a plate, the same."""
    digest = hashlib.blake2b(manifest.files[WEIGHTS_FILE].encode(), digest_size=7)
    digest.update(np.ascontiguousarray(hashes).tobytes())
    return int.from_bytes(digest.digest(), "big")


def _content_columns(design: QueryDesign) -> list[UInt64]:
    """All that a fit sees of a cell beside its counts.

    A batch's code is a position among the query's batches; a fit alone does not depend on it.
    """
    columns = [code.astype(np.uint64) for code in design.codes[0 if design.is_coupled else 1 :]]
    if design.labels is not None:
        columns.append(design.labels.astype(np.uint64))
    numbers = [] if design.continuous is None else list(design.continuous.T)
    if design.size_factor is not None:
        numbers.append(design.size_factor)
    columns += [np.ascontiguousarray(n).view(np.uint32).astype(np.uint64) for n in numbers]
    return columns
