"""Surgery on a whole query: project every cell once, fit each group, encode every cell."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from models_store.bundle import WEIGHTS_FILE
from models_store.cells import Cells, Projection
from models_store.encoding import Latents, encode, join_projections, project_block
from models_store.manifest import Manifest, Recipe
from models_store.scvi import SCVI
from models_store.surgery import graft, join_query_weights, load_query_weights, query_weights
from worker.alignment import AlignedCounts, UInt64, fold_hashes, row_hashes
from worker.covariates import Group, QueryDesign
from worker.fitting import Fit, TrainingCells, fit

Progress = Callable[[float], None]
Index = npt.NDArray[np.int64]

SMALLEST_PRIOR_VARIANCE = 1e-4


@dataclass(frozen=True)
class ProjectedQuery:
    """What one pass over the counts leaves behind: nothing as wide as the gene panel."""

    projection: Projection
    totals: Tensor
    """Counts of each cell in the reference's genes, float64, (c,)."""
    occupied: npt.NDArray[np.bool_]
    """Cells with any value other than zero in the reference's genes, (c,)."""
    hashes: UInt64
    """Each cell by its content: counts and covariates, never its position, (c, 2)."""


@dataclass(frozen=True)
class GroupFit:
    """A group and how its fit went; None when it had no cell to learn from."""

    group: Group
    seed: int
    fit: Fit | None


class QuerySurgery:
    """One query on one reference: `project`, then `fit`, then `encode`."""

    def __init__(
        self, manifest: Manifest, cvae: SCVI, counts: AlignedCounts, design: QueryDesign
    ) -> None:
        self.manifest, self.cvae, self.counts, self.design = manifest, cvae, counts, design
        self.device = cvae.library_prior.device
        self.n_reference = len(manifest.batch.categories)
        self.groups = design.groups(self.n_reference)

    def project(self, progress: Progress) -> ProjectedQuery:
        """One pass over the counts, block by block."""
        parts, totals, occupied, hashes = [], [], [], []
        for start, stop, rows in self.counts.blocks():
            progress(start / self.counts.n_cells)
            parts.append(project_block(self.cvae, self._cells(rows.toarray(), slice(start, stop))))
            totals.append(_totals(rows))
            occupied.append(np.diff(rows.indptr) > 0)
            hashes.append(row_hashes(rows))
        folded = fold_hashes(np.concatenate(hashes), _content_columns(self.design))
        return ProjectedQuery(
            join_projections(parts), torch.cat(totals), np.concatenate(occupied), folded
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
        codes = tuple(torch.from_numpy(code).to(self.device) for code in self.design.codes)
        return encode(grafted, projected.projection, codes)

    def _fit_group(
        self, projected: ProjectedQuery, recipe: Recipe, group: Group, progress: Progress
    ) -> GroupFit:
        order = _by_content(projected, group)
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
        )
        return GroupFit(group, seed, found)

    def _training_cells(self, projected: ProjectedQuery, index: Index) -> TrainingCells:
        cells = self._cells(self.counts.dense(index), index)
        if not self.design.is_coupled:  # alone, its batch is the first that surgery adds
            cells = replace(cells, codes=(self.n_reference, *cells.codes[1:]))
        rows = torch.from_numpy(index).to(self.device)
        return TrainingCells(cells, projected.projection.rows(rows))

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


def _by_content(projected: ProjectedQuery, group: Group) -> Index:
    """The group's cells that have counts, in an order that only their content decides."""
    cells = group.cells[projected.occupied[group.cells]]
    hashes = projected.hashes[cells]
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
