"""From a query's obs columns to the category codes that a reference's layers look up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.problems import UnknownCovariate
from models_store.manifest import Covariate, Manifest
from worker.batches import batch_names, batch_warnings, told_apart
from worker.experiment import DesignKeys, Experiment, read_experiment
from worker.labels import GivenLabels, labels_of
from worker.obs import category_names, find_column, listed

Codes = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Group:
    """Cells that are fitted together: one new batch, or all cells where new categories of
    further covariates couple the batches."""

    name: str
    cells: Codes
    n_new: tuple[int, ...]
    batches: tuple[str, ...]


@dataclass(frozen=True)
class QueryDesign:
    """Codes and numbers of every cell, under the reference's covariates and those added to them."""

    codes: tuple[Codes, ...]
    """For the batch and each extra covariate; new categories follow the reference's."""
    new_categories: tuple[tuple[str, ...], ...]
    renamed: Mapping[str, str]
    """Query batches that share a reference batch's name, and what they are called here."""
    continuous: Float32 | None
    given_labels: GivenLabels | None
    size_factor: Float32 | None
    """Of each cell; with depths that are given, both side by side."""
    warnings: tuple[dict[str, str], ...] = field(default=())
    experiment: Experiment = field(default_factory=lambda: Experiment({}))

    @property
    def labels(self) -> Codes | None:
        """Codes of labels, for a reference that looks at them."""
        return None if self.given_labels is None else self.given_labels.codes

    @property
    def n_new(self) -> tuple[int, ...]:
        return tuple(len(names) for names in self.new_categories)

    @property
    def is_coupled(self) -> bool:
        return any(self.n_new[1:])

    def groups(self, n_reference_batches: int) -> list[Group]:
        """What is fitted together. Cells of reused reference batches need no fit."""
        batches = self.new_categories[0]
        if self.is_coupled:
            everyone = np.arange(len(self.codes[0]))
            return [Group("all batches", everyone, self.n_new, batches)]
        others = (0,) * (len(self.codes) - 1)
        return [
            Group(
                name,
                np.flatnonzero(self.codes[0] == n_reference_batches + i),
                (1, *others),
                (name,),
            )
            for i, name in enumerate(batches)
        ]


def design_query(
    obs: pd.DataFrame,
    manifest: Manifest,
    *,
    batch_key: Sequence[str] | None,
    labels_key: str | None = None,
    reuse_batches: bool = False,
    size_factor_key: str | None = None,
    design: DesignKeys | None = None,
) -> QueryDesign:
    """Resolve every covariate of the reference in the query's obs.

    Columns bear the names that the reference knows, unless a key names another.

    Raises:
        UnknownBatchColumn: a batch column that obs lacks.
        TooManyBatches: a batch column that looks like an identifier of cells.
        UnknownCovariate: a covariate that the reference needs and obs lacks, or not numbers.
        UnknownLabelsColumn: a labels column that obs lacks (but see `labels_of`).
        UnknownDesignColumn, UnknownControlValue: see `read_experiment`.
    """
    keys, known = batch_key or (), manifest.batch.categories
    batch, renamed = told_apart(batch_names(obs, keys), () if reuse_batches else known)
    coded = [_code(batch, known)]
    coded += [
        _code(_column(obs, covariate), covariate.categories)
        for covariate in manifest.extra_covariates
    ]
    continuous = [numbers_of(obs, key) for key in manifest.continuous_covariates]
    labels = labels_of(obs, manifest, labels_key)
    experiment = read_experiment(
        obs, design or DesignKeys(), batch=batch, batch_key=keys, known=known
    )
    return QueryDesign(
        codes=tuple(codes for codes, _ in coded),
        new_categories=tuple(new for _, new in coded),
        renamed=renamed,
        continuous=np.stack(continuous, axis=1) if continuous else None,
        given_labels=labels,
        size_factor=_size_factor(obs, manifest, size_factor_key),
        warnings=batch_warnings(obs, keys, batch, known)
        + experiment.warnings
        + (labels.warnings if labels else ()),
        experiment=experiment,
    )


def _code(values: pd.Series, reference: Sequence[str]) -> tuple[Codes, tuple[str, ...]]:
    new = tuple(sorted(set(values.unique()) - set(reference)))
    position = {name: code for code, name in enumerate((*reference, *new))}
    return values.map(position).to_numpy(dtype=np.int64), new


def _column(obs: pd.DataFrame, covariate: Covariate) -> pd.Series:
    column = find_column(
        obs,
        covariate.key or "",
        UnknownCovariate,
        detail=f"The reference was trained with the covariate {covariate.key!r}, and the query's "
        "obs has no such column.",
        fix=f"Add obs[{covariate.key!r}]. The reference knows these values, and new ones are "
        f"learnt: {listed(covariate.categories)}.",
    )
    return category_names(column)


def numbers_of(obs: pd.DataFrame, key: str) -> Float32:
    """A column of finite numbers.

    Raises:
        UnknownCovariate: obs lacks the column, or a cell has no finite number in it.
    """
    detail = f"A number is needed for every cell in obs[{key!r}]."
    fix = f"Add obs[{key!r}] with a finite number for each cell, on the reference's scale."
    column = find_column(obs, key, UnknownCovariate, detail=detail, fix=fix)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused
        found: Float32 = numbers.astype(np.float32)
    if not np.isfinite(found).all():
        raise UnknownCovariate(
            detail,
            fix=fix,
            errors=[{"pointer": f"/obs/{key}", "detail": "not a finite number in every cell"}],
        )
    return found


def size_factors_of(obs: pd.DataFrame, key: str, *, may_be_zero: bool = False) -> Float32:
    """A column of size factors.

    Args:
        obs: of the cells.
        key: the column.
        may_be_zero: whether 0 will do, for cells that were not measured for genes.

    Raises:
        UnknownCovariate: as `numbers_of`, or a size factor is not above zero.
    """
    numbers = numbers_of(obs, key)
    if not ((numbers >= 0) if may_be_zero else (numbers > 0)).all():
        wanted = "zero or above" if may_be_zero else "above zero"
        raise UnknownCovariate(
            f"The size factors in obs[{key!r}] are not all {wanted}.",
            fix="Give every cell a positive size factor.",
            errors=[{"pointer": f"/obs/{key}", "detail": f"not {wanted} in every cell"}],
        )
    return numbers


def depths_of(obs: pd.DataFrame, key: str) -> Float32:
    """A column of depths in regions.

    Raises:
        UnknownCovariate: as `numbers_of`, or a depth is not between 0 and 1.
    """
    numbers = numbers_of(obs, key)
    if not ((numbers >= 0) & (numbers <= 1)).all():
        raise UnknownCovariate(
            f"The depths in obs[{key!r}] are not all between 0 and 1.",
            fix="Give every cell the share of its open regions that are seen: scale the depths so "
            "that the largest is at most 1, as for the reference.",
            errors=[{"pointer": f"/obs/{key}", "detail": "not between 0 and 1 in every cell"}],
        )
    return numbers


def _size_factor(obs: pd.DataFrame, manifest: Manifest, key: str | None) -> Float32 | None:
    if manifest.size_factor_key is None:
        return None
    may_be_zero = manifest.kind == "multivi"
    factors = size_factors_of(obs, key or manifest.size_factor_key, may_be_zero=may_be_zero)
    if manifest.depth_key is None:
        return factors
    return np.stack([factors, depths_of(obs, manifest.depth_key)], axis=1)
