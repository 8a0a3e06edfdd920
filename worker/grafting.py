"""Surgery on a whole query: project every cell once, fit each group, encode every cell.

Projecting may be shared out among several workers, each with some of the cells: `worker.shards`.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from models_store.blocks import block_ranges
from models_store.bundle import WEIGHTS_FILE
from models_store.cells import Cells, Projection
from models_store.cvae import CVAE
from models_store.encoding import Latents, encode, encode_block
from models_store.layers import Codes
from models_store.manifest import Manifest
from models_store.protein_panels import with_measured
from models_store.recipe import Recipe
from models_store.sparse_blocks import BlockProjector
from models_store.sparse_counts import sparse_counts
from models_store.surgery import graft, join_query_weights, load_query_weights, query_weights
from worker.alignment import AlignedCounts, Float32, Index, UInt64, fold_hashes, row_hashes
from worker.covariates import Group, QueryDesign
from worker.fitting import Fit, Restrain, fit
from worker.projected_query import ProjectedCells, ProjectedQuery, by_content
from worker.projections import KeptProjections, keep_projections
from worker.restraint import MOST_AMONG, Restrained, restrain
from worker.training_cells import TrainingCells

Progress = Callable[[float], None]

SMALLEST_PRIOR_VARIANCE = 1e-4
FEW_DRAWS = 500
"""Of a logistic-normal latent, enough to tell which cells are near each other."""


@dataclass(frozen=True)
class PlacedCells:
    """Every cell in the latent space."""

    mean: Float32
    """Coordinates, (c, z)."""
    moved: npt.NDArray[np.float64]
    """Euclidean distance from where recipe `forward` puts them, (c,)."""


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
        cvae: CVAE,
        counts: AlignedCounts,
        design: QueryDesign,
        *,
        among: Tensor | None = None,
    ) -> None:
        """`among`: latents of some of the reference's cells, (r, z); None where it has none."""
        self.manifest, self.cvae, self.counts, self.design = manifest, cvae, counts, design
        self.among = among
        self.device = cvae.device
        self.n_reference = len(manifest.batch.categories)
        self.groups = design.groups(self.n_reference)

    def project(self, progress: Progress, folder: Path | None = None) -> ProjectedQuery:
        """One pass over the counts, block by block. Many projections go to the folder."""
        n_cells = self.counts.n_cells
        kept = keep_projections(folder, n_cells)
        return ProjectedQuery([self.project_cells(0, n_cells, kept, progress)], self.counts)

    def project_cells(
        self, start: int, stop: int, kept: KeptProjections, progress: Progress
    ) -> ProjectedCells:
        """The same of some cells; `start` is a multiple of a block."""
        n, project = stop - start, BlockProjector(self.cvae)
        # Small arrays that stay, made between large ones that go, would leave gaps in memory.
        totals, occupied = torch.empty(n, dtype=torch.float64), np.empty(n, dtype=bool)
        hashes = np.empty((n, 2), dtype=np.uint64)
        numbers = (self.design.continuous, self.design.size_factor)
        for first, last, rows in self.counts.blocks(start, stop):
            progress((first - start) / n)
            kept.add(project(rows, *(self._there(each, slice(first, last)) for each in numbers)))
            here = slice(first - start, last - start)
            totals[here], occupied[here] = self._totals(rows), np.diff(rows.indptr) > 0
            hashes[here] = row_hashes(rows)
        columns = [column[start:stop] for column in _content_columns(self.design)]
        folded = fold_hashes(hashes, columns)
        return ProjectedCells(start, stop, kept.finish(), totals, occupied, folded)

    def _totals(self, rows: sp.csr_matrix) -> Tensor:
        """Counts of each cell in float64, in which scipy would sum only after adding in float32.

        A library is of the genes alone where there are genes.
        """
        a = self.manifest.architecture
        counted = rows[:, : a.n_genes] if 0 < a.n_genes < a.n_features else rows
        return torch.from_numpy(np.asarray(counted.astype(np.float64).sum(axis=1)).ravel())

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
        grafted = self._grafted(weights)
        found = [encode_block(grafted, block, codes) for _, block, codes in self._blocks(projected)]
        return Latents(
            torch.cat([latents.mean for latents in found]),
            torch.cat([latents.variance for latents in found]),
        )

    def place(
        self, projected: ProjectedQuery, weights: dict[str, Tensor], progress: Progress
    ) -> PlacedCells:
        """Where every cell comes to lie, and how far that is from where a fit starts."""
        n_cells = len(projected.totals)
        mean = np.empty((n_cells, self.manifest.architecture.n_latent), dtype=np.float32)
        moved = np.empty(n_cells, dtype=np.float64)
        grafted, start = self._grafted(weights), self._grafted(None)
        for cells, block, codes in self._blocks(projected):
            progress(cells.start / n_cells)
            placed = encode_block(grafted, block, codes).mean.cpu()
            before = encode_block(start, block, codes).mean.cpu()
            mean[cells] = placed.numpy()
            moved[cells] = (placed.double() - before.double()).norm(dim=1).numpy()
        return PlacedCells(mean, moved)

    def blocks_to_decode(
        self, projected: ProjectedQuery, weights: dict[str, Tensor]
    ) -> Iterator[tuple[CVAE, Projection, Cells]]:
        """For every block of cells the network with these weights, projections and covariates."""
        grafted, design = self._grafted(weights), self.design
        for cells, block, codes in self._blocks(projected):
            columns = (design.continuous, design.labels, design.size_factor)
            no_counts = block.z.new_empty(len(block.z), 0)
            yield grafted, block, Cells(no_counts, codes, *(self._there(c, cells) for c in columns))

    def _grafted(self, weights: dict[str, Tensor] | None) -> CVAE:
        grafted = graft(self.cvae, self.design.n_new)
        if weights is not None:
            load_query_weights(grafted, weights)
        return grafted

    def _blocks(
        self, projected: ProjectedQuery
    ) -> Iterator[tuple[slice, Projection, tuple[Tensor, ...]]]:
        """Which cells, their projections and their codes, on the network's device."""
        for part in projected.parts:
            for start, stop in block_ranges(part.stop, part.start):
                cells = slice(start, stop)
                block = part.projections.block(start - part.start, stop - part.start)
                yield cells, block.to(self.device), self._codes(cells)

    def sample_of(self, part: ProjectedCells, recipe: Recipe) -> Index:
        """The cells of a part, ascending, among which are all of it that a fit will learn from.

        A batch's sample are the first of its cells by content, so it is within the union of what
        the parts would choose if each were the whole.
        """
        chosen = [np.empty(0, dtype=np.int64)]
        for group in self.groups:
            first, last = np.searchsorted(group.cells, [part.start, part.stop])
            chosen.append(by_content(part, group.cells[first:last])[: recipe.sample_size])
        return np.sort(np.concatenate(chosen))

    def _fit_group(
        self, projected: ProjectedQuery, recipe: Recipe, group: Group, progress: Progress
    ) -> GroupFit:
        order = by_content(projected, group.cells)
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
            restrain=self._restraint(projected, order, recipe),
        )
        return GroupFit(group, seed, found)

    def _restraint(
        self, projected: ProjectedQuery, order: Index, recipe: Recipe
    ) -> Restrain | None:
        """What says how far the group's fit may go; None where the recipe or nobody can.

        Nor does it where no row moves a latent: the batch lies the same with any of them.
        """
        is_asked = (recipe.to_nearest or recipe.mixing_kept) and self.manifest.surgery_has_effect
        if not is_asked or self.among is None or not len(self.among):
            return None
        among, cells = self.among, order[:MOST_AMONG]
        projection = projected.rows(cells).to(self.device)
        codes = self._group_codes(cells)

        def restrained(network: Callable[[float], CVAE]) -> Restrained:
            def place(share: float) -> Tensor:
                return encode(network(share), projection, codes, most_draws=FEW_DRAWS).mean

            return restrain(among, place, recipe.mixing_kept, to_nearest=recipe.to_nearest)

        return restrained

    def _group_codes(self, cells: Index) -> Codes:
        """Of cells of a group; alone, its batch is the first that surgery adds."""
        batch, *others = self._codes(cells)
        return (batch if self.design.is_coupled else self.n_reference, *others)

    def _training_cells(self, projected: ProjectedQuery, index: Index) -> TrainingCells:
        cells = self._cells(sparse_counts(projected.counts.in_order(index)), index)
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

    def _cells(self, x: Tensor, index: Index) -> Cells:
        design = self.design
        columns = (design.continuous, design.labels, design.size_factor)
        there = (self._there(column, index) for column in columns)
        cells = Cells(x.to(self.device), self._group_codes(index), *there)
        return with_measured(cells, self.manifest.architecture.n_proteins)

    def _codes(self, index: slice | Index) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(code[index]).to(self.device) for code in self.design.codes)

    def _there(self, values: npt.NDArray[np.generic] | None, index: slice | Index) -> Tensor | None:
        return None if values is None else torch.from_numpy(values[index]).to(self.device)


def _seed(manifest: Manifest, hashes: UInt64) -> int:
    """From the reference's weights and the batch's content: alone or in a plate, the same."""
    digest = hashlib.blake2b(manifest.files[WEIGHTS_FILE].encode(), digest_size=7)
    digest.update(np.ascontiguousarray(hashes).data)
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
        numbers += list(np.atleast_2d(design.size_factor.T))
    columns += [np.ascontiguousarray(n).view(np.uint32).astype(np.uint64) for n in numbers]
    return columns
